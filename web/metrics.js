/* /metrics, read each second: the text taken apart, counters turned into rates, and a window of
 * history. While nobody looks (the tab is hidden) nothing is asked for. */
import { who } from "./state.js";

export const KEEP = 900;                 // seconds of history
const CHANNELS_KEPT = 500, CHANNEL_KEEP = 300;
const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

export function parse(text) {
  const out = new Map();                 // name → [{labels, value}]
  for (const line of text.split("\n")) {
    if (!line || line[0] === "#") continue;
    const m = LINE.exec(line);
    if (!m || m[1].endsWith("_bucket")) continue;
    const labels = {};
    if (m[2]) for (const [, k, v] of m[2].matchAll(LABEL)) labels[k] = v.replace(/\\(.)/g, (_, c) => (c === "n" ? "\n" : c));
    if (!out.has(m[1])) out.set(m[1], []);
    out.get(m[1]).push({ labels, value: Number(m[3]) });
  }
  return out;
}

export function sum(sample, name, match) {
  let v = 0, seen = false;
  for (const s of sample.get(name) || []) {
    if (match && !Object.entries(match).every(([k, want]) => s.labels[k] === want)) continue;
    v += s.value;
    seen = true;
  }
  return seen ? v : NaN;
}

export const COUNTERS = {
  gatewayIn: "lavva_gateway_in_messages_total", gatewayOut: "lavva_gateway_out_messages_total",
  gatewayInBytes: "lavva_gateway_in_bytes_total",
  brokerIn: "lavva_broker_in_messages_total", brokerOut: "lavva_broker_out_messages_total",
  hubIn: "lavva_hub_in_messages_total", hubOut: "lavva_hub_out_messages_total",
  drops: "lavva_drops_total", cpu: "process_cpu_seconds_total",
};

class Feed {
  constructor() {
    this.listeners = new Set();
    this.rows = [];                      // {t, rates…}
    this.now = this.before = null;       // {t, sample}
    this.state = "connecting";           // up, down, refused
    this.channels = new Map();           // "app/channel" → {app, channel, total, rate, rows: [{t, in}]}
    this.failures = 0;
  }

  start() {
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.soon(0); });
    this.soon(0);
  }

  soon(ms) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.poll(), ms);
  }

  async poll() {
    if (document.hidden) return;
    const started = performance.now();
    try {
      const headers = { Accept: "text/plain" };
      if (this.asked && who.admin) headers.Authorization = `Bearer ${who.admin}`;
      const r = await fetch("/metrics", { cache: "no-store", headers });
      this.asked = this.asked || r.status === 401;         // a server that wants to know who reads them
      if (!r.ok) throw Object.assign(new Error(`HTTP ${r.status}`), { status: r.status });
      this.take(parse(await r.text()), Date.now());
      this.failures = 0;
      this.state = "up";
    } catch (e) {
      this.failures++;
      this.state = e.status === 401 || e.status === 403 ? "refused" : "down";
    }
    for (const fn of this.listeners) fn(this);
    const pause = Math.min(1000 * 2 ** Math.max(0, this.failures - 1), 8000);
    this.soon(Math.max(100, pause - (performance.now() - started)));
  }

  /* A counter that fell began anew with a new process: there is no rate across that. */
  take(sample, t) {
    const restarted = this.now && sum(sample, "process_start_time_seconds") !== sum(this.now.sample, "process_start_time_seconds");
    this.before = restarted ? null : this.now;
    this.now = { t, sample };
    if (restarted) {
      this.rows.push({ t: t - 500 });                  // a hole in the curves
      this.channels.clear();
    }
    if (!this.before) {
      this.takeChannels(t);
      return;
    }
    const row = { t };
    for (const [k, name] of Object.entries(COUNTERS)) row[k] = this.rate(name);
    for (const q of ["0.5", "0.95", "0.99"]) row[`q${q}`] = sum(sample, "lavva_processing_latency_quantile_seconds", { quantile: q });
    row.rss = sum(sample, "process_resident_memory_bytes");
    this.rows.push(row);
    this.takeChannels(t);
    while (this.rows.length && this.rows[0].t < t - KEEP * 1000) this.rows.shift();
  }

  takeChannels(t) {
    const dt = this.before ? (t - this.before.t) / 1000 : NaN;
    for (const s of this.now.sample.get("lavva_channel_in_messages_total") || []) {
      const { app, channel } = s.labels;
      if (channel === "_unknown") continue;
      const id = `${app}/${channel}`;
      let c = this.channels.get(id);
      if (!c) this.channels.set(id, c = { id, app, channel, total: NaN, rate: NaN, rows: [] });
      c.rate = Number.isFinite(dt) ? Math.max(0, (s.value - (Number.isFinite(c.total) ? c.total : 0)) / dt) : NaN;
      c.total = s.value;
      if (Number.isFinite(c.rate) && this.channels.size <= CHANNELS_KEPT) c.rows.push({ t, in: c.rate });
      if (c.rows.length > CHANNEL_KEEP) c.rows.shift();
    }
  }

  /* Per second, of all samples that match. */
  rate(name, match) {
    if (!this.before) return NaN;
    const a = sum(this.before.sample, name, match), b = sum(this.now.sample, name, match);
    if (Number.isNaN(b)) return NaN;
    return Math.max(0, (b - (Number.isNaN(a) ? 0 : a)) / ((this.now.t - this.before.t) / 1000));
  }

  total(name, match) { return this.now ? sum(this.now.sample, name, match) : NaN; }
  samples(name) { return (this.now && this.now.sample.get(name)) || []; }

  on(fn) {
    this.listeners.add(fn);
    if (this.now) fn(this);
    return () => this.listeners.delete(fn);
  }
}
export const feed = new Feed();
