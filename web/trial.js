/* A client to try things with: publish over HTTP or WebSocket, subscribe over WebSocket or SSE. */
import { h, toast, field, choice } from "./dom.js";
import { who } from "./state.js";
import { Live } from "./live.js";
import { Tail } from "./tail.js";

const scheme = location.protocol === "https:" ? "wss:" : "ws:";

/* What is typed, as bytes, JSON or text: {bytes} or {text, json}. */
function typed(v) {
  if (v.kind === "hex") {
    const digits = v.value.replace(/[\s:]|0x/g, "");
    if (!/^([0-9a-f]{2})*$/i.test(digits)) throw new Error("pairs of hexadecimal digits are expected, as in 00 ff 7e");
    return { bytes: Uint8Array.from(digits.match(/../g) || [], d => parseInt(d, 16)) };
  }
  if (v.kind === "text") return { text: v.value };
  try {
    JSON.parse(v.value);
  } catch (e) {
    throw new Error(`not JSON: ${e.message}`);
  }
  return { text: v.value.trim(), json: true };
}

async function overHttp(v, what) {
  const q = new URLSearchParams();
  for (const n of ["key", "tag", "cat"]) if (v[n]) q.set(n, v[n]);
  const type = what.bytes ? "application/octet-stream" : what.json ? "application/json" : "text/plain";
  const r = await fetch(`/v1/channels/${encodeURIComponent(v.channel)}/messages?${q}`, {
    method: "POST", body: what.bytes || what.text, headers: { Authorization: `Bearer ${who.key}`, "Content-Type": type },
  });
  const a = await r.json();
  if (!r.ok) throw new Error(a.error);
  return a.pos;
}

/* The value goes into the frame as it was typed: numbers keep their digits. */
function frame(v, what) {
  const members = ["\"id\":1"];
  for (const n of ["key", "tag", "cat"]) if (v[n]) members.push(`"${n}":${JSON.stringify(v[n])}`);
  if (what.bytes) members.push(`"b64":"${btoa(String.fromCharCode(...what.bytes))}"`);
  else members.push(`"val":${what.json ? what.text : JSON.stringify(what.text)}`);
  return `{${members.join(",")}}`;
}

function overWebSocket(v, what) {
  return new Promise((resolve, reject) => {
    const ws = new WebSocket(`${scheme}//${location.host}/v1/publish?${new URLSearchParams({ channel: v.channel, apiKey: who.key })}`);
    ws.onopen = () => ws.send(frame(v, what));
    ws.onmessage = e => {
      const a = JSON.parse(e.data);
      ws.close(1000);
      if (a.error) reject(new Error(typeof a.error === "string" ? a.error : a.error.text)); else resolve(a.pos);
    };
    ws.onclose = e => reject(new Error(e.reason || "the connection was refused: may this key publish there?"));
  });
}

class Stream {
  constructor(channel, on, { keys }) {
    const q = new URLSearchParams({ apiKey: who.key });
    if (keys) q.set("keys", keys);
    this.es = new EventSource(`/v1/channels/${encodeURIComponent(channel)}/events?${q}`);
    this.es.onmessage = e => {
      const m = JSON.parse(e.data);
      if (m.typ === 7) {
        if (this.binary) m.val = Uint8Array.from(atob(m.val), c => c.charCodeAt(0));
        on.message(m);
      } else if (m.typ === 1) {
        this.binary = m.val.channel_encoding === "binary";
        on.state(`subscribed to ${m.chn}`, "good");
      }
    };
    this.es.addEventListener("gap", e => { const g = JSON.parse(e.data).val; on.gap(g.from, g.to, g.reason); });
    this.es.onerror = () => on.state(this.es.readyState === 2 ? "refused: may this key read it?" : "connection lost; trying again", "bad");
  }

  end() { this.es.close(); }
}

function publisher() {
  const said = h("p", { role: "status", id: "p-said" });
  const text = h("textarea", { id: "p-value", name: "value", rows: "5", spellcheck: "false" });
  text.value = '{"celsius": 21.5}';
  const f = h("form", { "aria-label": "Publish", onsubmit: async e => {
    e.preventDefault();
    const v = Object.fromEntries(new FormData(f));
    said.className = "note";
    said.textContent = "sending…";
    try {
      const what = typed(v), started = performance.now();
      const pos = await (v.over === "ws" ? overWebSocket : overHttp)(v, what);
      said.className = "good";
      said.textContent = `safe at position ${pos}, ${Math.round(performance.now() - started)} ms`;
    } catch (err) {
      said.className = "error";
      said.textContent = err.message;
    }
  } },
  h("div.row", null, field("p-channel", "Channel", { value: "demo", required: true }), field("p-key", "Key", { value: "try" }), choice("p-over", "Over", [["http", "HTTP"], ["ws", "WebSocket"]])),
  h("div.row", null, field("p-tag", "Tag"), field("p-cat", "Category"), choice("p-kind", "Value is", [["json", "JSON"], ["text", "text"], ["hex", "bytes (hex)"]])),
  h("label", { for: "p-value" }, "Value"), text,
  h("div.row.end", null, h("button.primary", { type: "submit" }, "Publish")), said);
  return f;
}

export function trial(main) {
  let live = null;
  const tail = new Tail(), state = h("p.note", { role: "status", id: "s-state" }, "not subscribed");
  const button = h("button.primary", { type: "submit" }, "Subscribe");
  const stop = () => { if (live) live.end(); live = null; button.textContent = "Subscribe"; state.textContent = "not subscribed"; state.className = "note"; };
  const f = h("form", { "aria-label": "Subscribe", onsubmit: e => {
    e.preventDefault();
    if (live) { stop(); return; }
    const v = Object.fromEntries(new FormData(f));
    if (!who.key) {
      toast("Enter an API key first: Keys, above");
      return;
    }
    const on = {
      message: m => tail.message(m), gap: (a, b, why) => tail.told(`missing: from ${a} to ${b} (${why})`),
      state: (text, kind) => { state.textContent = text; state.className = kind === "bad" ? "error" : "good"; },
    };
    live = v.over === "sse" ? new Stream(v.channel, on, v) : new Live(v.channel, on, v);
    button.textContent = "Stop";
  } },
  h("div.row", null, field("s-channel", "Channel", { value: "demo", required: true }), field("s-keys", "Keys (filter)", { placeholder: "all, or a/+/b, a/#" }),
    choice("s-over", "Over", [["ws", "WebSocket"], ["sse", "Server-Sent Events"]])),
  h("div.row.end", null, button), state);
  main.append(h("div.head", null, h("h1", null, "Try it")),
    h("div.grid.wide", null, h("section.card", { "aria-label": "Publish" }, h("h2", null, "Publish"), publisher()),
      h("section.card", { "aria-label": "Subscribe" }, h("h2", null, "Subscribe"), f, tail.controls(), tail.box)));
  return { end() { stop(); tail.end(); }, theme() {} };
}
