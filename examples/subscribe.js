#!/usr/bin/env node
// Prints COUNT messages of CHANNEL: what is kept of it first, then live.
//   node subscribe.js CHANNEL [COUNT]      server: LAVVA_HTTP, LAVVA_KEY
'use strict';
const WebSocket = require('ws'); // Debian: node-ws; in a browser it is there already
const [channel, count = '10'] = process.argv.slice(2);
const query = new URLSearchParams({ channels: channel, apiKey: process.env.LAVVA_KEY || '' });
const ws = new WebSocket(`ws://${process.env.LAVVA_HTTP || 'localhost:8080'}/ws?${query}`);
let seen = 0;

ws.on('message', (data) => {
  const message = JSON.parse(data);
  if (message.typ !== 7 || seen >= Number(count)) return;
  console.log(message.chn, message.key, JSON.stringify(message.val));
  if (++seen === Number(count)) ws.close();
});
ws.on('error', (e) => {
  console.error(e.message);
  process.exit(3);
});
