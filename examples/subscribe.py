#!/usr/bin/env python3
"""Prints COUNT messages that match FILTER. The server keeps the session for an hour: run again with
the same id, it goes on where it left off.

    subscribe.py FILTER [COUNT [ID]]        server: LAVVA_MQTT, LAVVA_APP, LAVVA_KEY
"""
import os
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

wanted, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0
ident = sys.argv[3] if len(sys.argv) > 3 else "example-python"
host, _, port = os.environ.get("LAVVA_MQTT", "localhost:1883").rpartition(":")
seen = 0


def on_connect(client, userdata, flags, reason, properties):
    if reason != 0:
        print(f"refused: {reason}", file=sys.stderr)
        os._exit(3)
    client.subscribe(wanted, qos=1)


def on_message(client, userdata, message):
    global seen
    if count and seen >= count:
        return  # not ours any more: it stays with the session
    print(message.topic, message.payload.decode(errors="replace"), flush=True)
    seen += 1
    if seen == count:
        client.disconnect()


client = mqtt.Client(client_id=ident, protocol=mqtt.MQTTv5)
client.username_pw_set(os.environ.get("LAVVA_APP"), os.environ.get("LAVVA_KEY"))
client.on_connect, client.on_message = on_connect, on_message
keep = Properties(PacketTypes.CONNECT)
keep.SessionExpiryInterval = 3600
client.connect(host.strip("[]"), int(port), clean_start=False, properties=keep)
client.loop_forever()
