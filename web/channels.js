/* Channels with their rates; of one of them the latest value of each key and a live tail. */
import { h, short, clock, value, table, whole, count as counted } from "./dom.js";
import { feed } from "./metrics.js";
import { who, onChange } from "./state.js";
import { Chart } from "./chart.js";
import { Live } from "./live.js";
import { Tail } from "./tail.js";

const SHOWN = 200, KEYS = 500;

/* "app/channel" → rate in, from the samples of two readings. */
function rates() {
  const before = new Map(), out = [];
  if (!feed.now) return out;
  const name = "lavva_channel_in_messages_total";
  for (const s of (feed.before && feed.before.sample.get(name)) || []) before.set(`${s.labels.app}/${s.labels.channel}`, s.value);
  const dt = feed.before ? (feed.now.t - feed.before.t) / 1000 : NaN;
  for (const s of feed.samples(name)) {
    if (s.labels.channel === "_unknown") continue;
    const id = `${s.labels.app}/${s.labels.channel}`;
    out.push({ app: s.labels.app, channel: s.labels.channel, total: s.value, rate: Math.max(0, (s.value - (before.get(id) || 0)) / dt) });
  }
  return out;
}

class Detail {
  constructor(app, channel) {
    this.app = app;
    this.channel = channel;
    this.keys = new Map();
    this.history = [];
    this.chart = new Chart({ title: `${channel}: messages in`, series: [{ name: "in", color: "--s1", get: r => r.in }], format: v => `${short(v)}/s` });
    this.state = h("p.note", { role: "status" }, "connecting…");
    this.latest = h("div", { id: "latest" });
    this.tail = new Tail();
    this.el = h("div.stack", null,
      h("section.card", { "aria-label": "Rate" }, h("div.top", null, h("h2", null, channel), h("span.pill", null, app)), this.state, this.chart.box, this.chart.legend),
      h("section.card", { "aria-label": "Latest values" }, h("h2", null, "Last message of each key"), this.latest),
      h("section.card", { "aria-label": "Live tail" }, h("h2", null, "Live tail"), this.tail.controls(), this.tail.box));
    this.connect();
  }

  connect() {
    if (this.live) this.live.end();
    this.live = null;
    if (!who.key) {
      this.state.textContent = "Enter an API key (Keys, above) to see this channel's messages.";
      return;
    }
    this.live = new Live(this.channel, {
      message: m => this.take(m),
      state: (text, good) => {
        this.state.textContent = text;
        this.state.classList.toggle("error", !good);
      },
      gap: (from, to, reason) => this.tail.told(`not to be had any more: what lies between ${from} and ${to} (${reason})`),
    });
  }

  take(m) {
    this.keys.delete(m.key);               // to the end: the order of a Map is that of insertion
    this.keys.set(m.key, m);
    if (this.keys.size > KEYS) this.keys.delete(this.keys.keys().next().value);
    this.tail.message(m);
    if (!this.frame) this.frame = requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.frame = 0;
    const rows = [...this.keys.values()].reverse().map(m => [h("span.mono", null, m.key || "(no key)"), h("span.mono", null, value(m.val, 200)), clock(m.tms)]);
    this.latest.replaceChildren(table(`${counted(this.keys.size, "key")}, newest first`, [{ name: "key" }, { name: "value" }, { name: "time", num: true }], rows.slice(0, 100), "No message yet."));
  }

  rate(t, v) {
    this.history.push({ t, in: v });
    if (this.history.length > 900) this.history.shift();
    this.chart.draw(this.history);
  }

  end() {
    if (this.live) this.live.end();
    cancelAnimationFrame(this.frame);
    this.tail.end();
    this.chart.forget();
  }
}

export function channels(main) {
  let detail = null, chosen = "";
  const find = h("input", { type: "search", id: "find", placeholder: "search", "aria-label": "Search channels", oninput: () => update() });
  const list = h("ul.list", { "aria-label": "Channels" });
  const count = h("p.note", { role: "status" });
  const right = h("div", { id: "detail" }, h("p.card.empty", null, "Choose a channel."));
  main.append(h("div.head", null, h("h1", null, "Channels")),
    h("div.split", null, h("section.card", { "aria-label": "Channels" }, find, count, list), right));

  function open(c) {
    if (detail) detail.end();
    chosen = `${c.app}/${c.channel}`;
    detail = new Detail(c.app, c.channel);
    right.replaceChildren(detail.el);
    detail.draw();
    update();
  }

  function entry(c) {
    const b = h("button", { type: "button", onclick: () => open(entries.get(b.dataset.id)) }, h("span"), h("span"));
    b.dataset.id = `${c.app}/${c.channel}`;
    return h("li", null, b);
  }
  const entries = new Map(), items = new Map();

  function update() {
    const apps = new Set(), want = find.value.toLowerCase();
    const found = rates().filter(c => { apps.add(c.app); return `${c.app}/${c.channel}`.toLowerCase().includes(want); });
    found.sort((a, b) => (b.rate || 0) - (a.rate || 0) || b.total - a.total || (a.channel < b.channel ? -1 : 1));
    count.textContent = found.length > SHOWN ? `${counted(found.length, "channel")}, the ${SHOWN} busiest shown: search for others` : counted(found.length, "channel");
    entries.clear();
    const shown = found.slice(0, SHOWN).map(c => {
      const id = `${c.app}/${c.channel}`;
      entries.set(id, c);
      if (!items.has(id)) items.set(id, entry(c));
      const b = items.get(id).firstChild;
      b.firstChild.textContent = apps.size > 1 ? id : c.channel;
      b.lastChild.textContent = Number.isFinite(c.rate) ? `${short(c.rate)}/s` : "–";
      b.setAttribute("aria-current", String(id === chosen));
      return items.get(id);
    });
    for (const id of items.keys()) if (!entries.has(id)) items.delete(id);
    /* Whoever is on an entry stays there: while the list has the focus its order is kept. */
    if (!list.contains(document.activeElement) || list.childElementCount !== shown.length) list.replaceChildren(...shown);
    const mine = entries.get(chosen);
    if (detail && mine && feed.now && feed.now.t !== detail.seen) {
      detail.seen = feed.now.t;
      detail.rate(feed.now.t, mine.rate);
    }
  }
  const off = feed.on(update), offKeys = onChange(() => detail && detail.connect());
  return {
    end() { off(); offKeys(); if (detail) detail.end(); },
    theme() { if (detail) detail.chart.forget(); update(); },
  };
}
