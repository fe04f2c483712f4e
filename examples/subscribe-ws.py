#!/usr/bin/env python3
"""Prints COUNT messages of CHANNEL over WebSocket. With POSITION it goes on behind that one, and
says so when something in between is no longer there.

    subscribe-ws.py CHANNEL [COUNT [POSITION]]        server: LAVVA_HTTP, LAVVA_KEY
"""
import asyncio
import json
import os
import sys
import urllib.parse

import websockets

channel, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 10
since = sys.argv[3] if len(sys.argv) > 3 else None
query = {"channels": channel, "apiKey": os.environ.get("LAVVA_KEY", ""), "pos": "true"}
if since:
    query["since"] = since
url = f"ws://{os.environ.get('LAVVA_HTTP', 'localhost:8080')}/ws?{urllib.parse.urlencode(query)}"


async def main():
    seen = 0
    async with websockets.connect(url) as ws:
        async for frame in ws:
            message = json.loads(frame)
            if message["typ"] == 9:
                print("missing:", message["val"], file=sys.stderr)
            if message["typ"] != 7:
                continue
            print(message["pos"], message["key"], json.dumps(message["val"]), flush=True)
            seen += 1
            if seen == count:
                return


try:
    asyncio.run(main())
except websockets.InvalidStatusCode as e:
    sys.exit(f"refused: {e.status_code}")
