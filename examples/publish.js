#!/usr/bin/env node
// Publishes COUNT JSON values to CHANNEL over WebSocket and waits until all are acknowledged.
//   node publish.js CHANNEL [COUNT]        server: LAVVA_HTTP, LAVVA_KEY
'use strict';
const WebSocket = require('ws'); // Debian: node-ws
const [channel, count = '1'] = process.argv.slice(2);
const query = new URLSearchParams({ channel, apiKey: process.env.LAVVA_KEY || '' });
const ws = new WebSocket(`ws://${process.env.LAVVA_HTTP || 'localhost:8080'}/v1/publish?${query}`);
let open = Number(count);

ws.on('open', () => {
  for (let n = 0; n < Number(count); n++) {
    ws.send(JSON.stringify({ id: String(n), key: 'js', val: { n } }));
  }
});
ws.on('message', (data) => {
  const answer = JSON.parse(data);
  if (answer.error) {
    console.error(answer.error);
    process.exit(1);
  }
  if (--open === 0) {
    console.log(`${count} acknowledged`);
    ws.close();
  }
});
ws.on('error', (e) => {
  console.error(e.message);
  process.exit(3);
});
