/* Channels with their rates; of one of them the last message of each key and a live tail. */
import { h, short, empty, whole, count as counted } from "./dom.js";
import { feed } from "./metrics.js";
import { who, all, onChange } from "./state.js";
import { Chart } from "./chart.js";
import { Live } from "./live.js";
import { Tail } from "./tail.js";
import { Latest } from "./latest.js";
import { Picker } from "./picker.js";

const NAME = /^(?!_)[A-Za-z0-9._-]{1,64}$/;
const rate = v => (Number.isFinite(v) ? `${short(v)}/s` : "–");

class Detail {
  constructor(c) {
    this.c = c;
    const known = () => feed.channels.get(c.id);
    this.chart = new Chart({ title: `${c.channel}: messages in`, axis: short, format: rate,
      series: [{ name: "in", color: "--s1", get: r => r.in }], rows: () => (known() ? known().rows : []),
      idle: () => h("span", null, known() ? `${whole(known().total)} since the start` : "not counted by itself in /metrics") });
    this.now = h("div.big", { id: "channel-rate" }, h("span", null, "–"));
    this.state = h("p.note", { role: "status" }, "connecting…");
    this.latest = new Latest();
    this.tail = new Tail();
    this.el = h("div.stack", null,
      h("section.card.kpi", { "aria-labelledby": "channel-name" },
        h("div.top", null, h("h2", { id: "channel-name" }, c.channel), h("span.pill", null, c.app)), this.state, this.now, this.chart.box, this.chart.legend),
      h("section.card", { "aria-labelledby": "latest-name" },
        h("div.top", null, h("h2", { id: "latest-name" }, "Last message of each key"), this.latest.find), this.latest.el),
      h("section.card", { "aria-labelledby": "tail-name" }, h("h2", { id: "tail-name" }, "Live tail"), this.tail.controls(), this.tail.box));
    this.connect();
  }

  say(text, kind) {
    this.state.textContent = text;
    this.state.className = kind === "bad" ? "note error" : "note";
  }

  connect() {
    if (this.live) this.live.end();
    this.live = null;
    if (!who.key) {
      this.say("Enter an API key of this app under Keys, above, to see its messages.");
      return;
    }
    if (who.app && who.app !== this.c.app) {
      this.say(`The key in this tab is of app ${who.app}: enter one of ${this.c.app} under Keys, above.`);
      return;
    }
    this.say("connecting…");
    this.live = new Live(this.c.channel, {
      message: m => { this.latest.message(m); this.tail.message(m); },
      state: (text, kind) => this.say(text, kind),
      gap: (from, to, reason) => this.tail.told(`not to be had any more: what lies between ${from} and ${to} (${reason})`),
    });
  }

  update() {
    const known = feed.channels.get(this.c.id);
    this.now.firstChild.textContent = rate(known ? known.rate : NaN);
    this.chart.draw();
  }

  end() {
    if (this.live) this.live.end();
    this.latest.end();
    this.tail.end();
    this.chart.end();
  }
}

export function channels(main) {
  let detail = null, chosen = "", listed = [], calm = 0, ended = false;
  const find = h("input", { type: "search", id: "find", placeholder: "Search or name a channel", "aria-label": "Search channels", oninput: () => update(true) });
  const count = h("p.note", { role: "status" });
  const picker = new Picker("Channels", {
    draw: c => [h("span.name", null, c.label), h("span.soft", null, c.open ? "open" : rate(c.rate))],
    chosen: c => c.id === chosen,
    choose: open,
  });
  const none = empty("No channel yet. The first message to one shows it here.", { kind: "channels" });
  const right = h("div", { id: "detail" }, h("div.card", null, empty("Choose a channel to see its messages as they come.", { kind: "channels" })));
  main.append(h("div.head", null, h("h1", null, "Channels")),
    h("div.split", null, h("section.card.side", { "aria-label": "All channels" }, find, count, none, picker.el), right));

  function open(c) {
    if (detail && chosen === c.id) return;
    if (detail) detail.end();
    chosen = c.id;
    detail = new Detail(c);
    right.replaceChildren(detail.el);
    detail.update();
    if (c.open) find.value = "";
    update(true);
    if (matchMedia("(max-width: 760px)").matches) right.scrollIntoView();
  }

  /* Channels that /metrics counts, and with an administrator's key those that it does not name. */
  function everything() {
    const by = new Map();
    for (const c of feed.channels.values()) if (c.channel !== "_other") by.set(c.id, c);
    for (const c of listed) if (!by.has(c.id)) by.set(c.id, c);
    return [...by.values()];
  }

  async function list() {
    if (!who.admin) return;
    try {
      const apps = await all("/apps"), found = [];
      for (const app of apps) {
        for (const c of await all(`/apps/${encodeURIComponent(app.name)}/channels`))
          found.push({ id: `${app.name}/${c.name}`, app: app.name, channel: c.name, rate: NaN, total: 0 });
        if (ended) return;
      }
      listed = found;
      update(true);
    } catch { /* those of /metrics remain */ }
  }

  function update(now) {
    if (detail) detail.update();
    /* The order follows the rates, but not under the hand of whoever is choosing. */
    const busy = picker.el.matches(":hover, :focus");
    if (!now && (busy || (feed.now && feed.now.t < calm))) {
      picker.show();
      return;
    }
    calm = (feed.now ? feed.now.t : 0) + 4000;
    const text = find.value.trim(), want = text.toLowerCase(), known = everything();
    const apps = new Set(known.map(c => c.app));
    const found = known.filter(c => c.id.toLowerCase().includes(want));
    for (const c of found) c.label = apps.size > 1 ? c.id : c.channel;
    const key = c => (Number.isFinite(c.rate) ? Math.round(c.rate) : -1);
    found.sort((a, b) => key(b) - key(a) || (a.channel < b.channel ? -1 : a.channel > b.channel ? 1 : 0));
    if (NAME.test(text) && !known.some(c => c.channel === text))
      found.push({ id: `${who.app || "dev"}/${text}`, app: who.app || "dev", channel: text, label: `“${text}”`, rate: NaN, open: true });
    const real = found.filter(c => !c.open).length;
    const other = [...feed.channels.values()].filter(c => c.channel === "_other" && c.total > 0).length;
    count.textContent = counted(real, "channel") + (other && !listed.length ? ", and more that /metrics does not name: name them above, or give an administrator's key" : "");
    none.hidden = found.length > 0;
    picker.el.hidden = found.length === 0;
    picker.set(found);
  }

  const off = feed.on(() => update(false));
  const offKeys = onChange(() => { if (detail) detail.connect(); list(); });
  list();
  const again = setInterval(list, 30000);
  return {
    end() { ended = true; clearInterval(again); off(); offKeys(); picker.end(); if (detail) detail.end(); },
    theme() { if (detail) { detail.chart.forget(); detail.update(); } },
  };
}
