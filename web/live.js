/* A subscription to one channel over the hub's WebSocket, which comes back by itself and resumes
 * where it was, so that nothing is missed in between. In msgpack: bytes are bytes (msgpack.js). */
import { who } from "./state.js";
import { decode } from "./msgpack.js";

const scheme = location.protocol === "https:" ? "wss:" : "ws:";

export class Live {
  /* on: {message(m), state(text, "good" | "bad" | ""), gap(from, to, reason)} */
  constructor(channel, on, { keys = "", snapshot = true } = {}) {
    this.channel = channel;
    this.on = on;
    this.keys = keys;
    this.snapshot = snapshot;
    this.pos = "";
    this.failures = 0;
    this.open();
  }

  open() {
    const q = new URLSearchParams({ channels: this.channel, apiKey: who.key, pos: "true", snapshot: String(this.snapshot), format: "binary", encoding: "msgpack" });
    if (this.keys) q.set("keys", this.keys);
    if (this.pos) q.set("since", this.pos);
    this.ws = new WebSocket(`${scheme}//${location.host}/ws?${q}`);
    this.ws.binaryType = "arraybuffer";
    this.ws.onmessage = e => this.take(decode(e.data));
    this.ws.onclose = e => this.closed(e);
  }

  take(m) {
    if (m.typ === 7) {
      this.pos = m.pos || this.pos;
      this.on.message(m);
    } else if (m.typ === 1) {
      this.failures = 0;
      this.on.state(`subscribed to ${m.chn}`, "good");
    } else if (m.typ === 9) {
      this.on.gap(m.val.from, m.val.to, m.val.reason);
    } else if (m.typ === 6) {
      this.on.state(m.val.error || `no longer subscribed to ${m.chn}`, "bad");
    }
  }

  /* Why a connection did not come about is not told to pages: a request that may be read says it. */
  async closed(e) {
    if (this.ended) return;
    this.failures++;
    let why = e.reason || "connection lost";
    if (this.failures === 1 || this.failures % 5 === 0) {
      try {
        const q = new URLSearchParams({ channels: this.channel, apiKey: who.key });
        const r = await fetch(`/snapshot?${q}`, { cache: "no-store" });
        if (!r.ok) why = (await r.json()).error || why;
      } catch { /* the server is away */ }
      this.why = why;
    }
    if (this.ended) return;
    const ms = Math.min(500 * 2 ** Math.min(this.failures, 5), 10000) * (0.8 + 0.4 * Math.random());
    this.on.state(`${this.why || why}; trying again`, "bad");
    this.timer = setTimeout(() => this.open(), ms);
  }

  end() {
    this.ended = true;
    clearTimeout(this.timer);
    this.ws.close(1000);
  }
}
