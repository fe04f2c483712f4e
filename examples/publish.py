#!/usr/bin/env python3
"""Publishes COUNT JSON values to TOPIC at QoS 1 and waits until all are acknowledged.

    publish.py TOPIC [COUNT]        server: LAVVA_MQTT, LAVVA_APP, LAVVA_KEY
"""
import json
import os
import sys
import time

import paho.mqtt.client as mqtt

topic, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1
host, _, port = os.environ.get("LAVVA_MQTT", "localhost:1883").rpartition(":")


def on_connect(client, userdata, flags, reason, properties=None):
    if reason != 0:
        print(f"refused: {reason}", file=sys.stderr)
        os._exit(3)


client = mqtt.Client(protocol=mqtt.MQTTv5)
client.username_pw_set(os.environ.get("LAVVA_APP"), os.environ.get("LAVVA_KEY"))
client.on_connect = on_connect
client.connect(host.strip("[]"), int(port))
client.loop_start()
sent = [client.publish(topic, json.dumps({"n": n, "at": time.time()}), qos=1)
        for n in range(count)]
for message in sent:
    message.wait_for_publish(30)
    if not message.is_published():
        sys.exit("not acknowledged")
client.disconnect()
client.loop_stop()
print(f"{count} acknowledged")
