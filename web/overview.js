/* The seven KPIs over time. */
import { h, short, seconds, whole, bytes, table, count } from "./dom.js";
import { feed } from "./metrics.js";
import { Chart, mark } from "./chart.js";

const perSecond = v => (Number.isFinite(v) ? `${short(v)}/s` : "–");
const direction = name => [`lavva_${name}_messages_total`, `lavva_${name}_bytes_total`];
const inAll = id => () => {
  const [messages, size] = direction(id);
  return [h("span", null, `${whole(feed.total(messages))} in all`), h("span", null, `${bytes(feed.rate(size) || 0)}/s`)];
};

const KPIS = [
  { id: "gateway-in", title: "Gateway IN", about: "accepted from devices", idle: inAll("gateway_in"),
    series: [{ name: "in", color: "--s1", get: r => r.gatewayIn }] },
  { id: "gateway-out", title: "Gateway OUT", about: "acknowledged by the broker", idle: inAll("gateway_out"),
    series: [{ name: "out", color: "--s1", get: r => r.gatewayOut }] },
  { id: "broker", title: "Broker throughput", about: "into and out of the log", named: true,
    idle: () => h("span", null, `${whole(feed.total("lavva_broker_in_messages_total"))} in, ${whole(feed.total("lavva_broker_out_messages_total"))} out in all`),
    series: [{ name: "in", color: "--s1", get: r => r.brokerIn }, { name: "out", color: "--s2", dash: true, get: r => r.brokerOut }] },
  { id: "hub-in", title: "Hub IN", about: "taken for subscribers", idle: inAll("hub_in"),
    series: [{ name: "in", color: "--s2", get: r => r.hubIn }] },
  { id: "hub-out", title: "Hub OUT", about: "delivered to customers", idle: inAll("hub_out"),
    series: [{ name: "out", color: "--s2", get: r => r.hubOut }] },
  { id: "drops", title: "Message drops", about: "every stage and reason", idle: reasons,
    series: [{ name: "drops", color: "--bad", get: r => r.drops }] },
  { id: "latency", title: "Processing latency", about: "last byte read to first byte written, of the last 60 s", format: seconds, named: true,
    idle: () => h("span", null, `slowest ${seconds(feed.total("lavva_processing_latency_max_seconds"))}`),
    series: [{ name: "p50", color: "--s2", get: r => r["q0.5"] }, { name: "p95", color: "--s3", get: r => r["q0.95"] },
      { name: "p99", color: "--s1", get: r => r["q0.99"] }] },
];

/* Drops of the process's life, the most frequent reasons first. */
function reasons() {
  const by = new Map();
  for (const s of feed.samples("lavva_drops_total"))
    if (s.value) by.set(s.labels.reason, (by.get(s.labels.reason) || 0) + s.value);
  const most = [...by].sort((a, b) => b[1] - a[1]).slice(0, 3);
  return most.length ? most.map(([reason, n]) => h("span", null, `${reason} ${short(n)}`)) : h("span", null, "none since the start");
}

function card(kpi) {
  const format = kpi.format || perSecond;
  const chart = new Chart({ title: kpi.title, series: kpi.series, format, axis: kpi.format || short, idle: kpi.idle, wide: Boolean(kpi.format) });
  const now = h("div.big", { id: `kpi-${kpi.id}` }, "–");
  const numbers = h("div", { hidden: true });
  const toggle = h("button.quiet", {
    type: "button", "aria-expanded": "false", "aria-label": `${kpi.title} as a table`,
    onclick: () => {
      numbers.hidden = !numbers.hidden;
      chart.box.hidden = !numbers.hidden;
      toggle.setAttribute("aria-expanded", String(!numbers.hidden));
      update();
    },
  }, "Table");
  const el = h(`section.card.kpi.${kpi.id}`, { "aria-labelledby": `kpi-${kpi.id}-name` },
    h("div.top", null, h("h2", { id: `kpi-${kpi.id}-name` }, kpi.title), toggle),
    h("p.about", null, kpi.about), now, chart.box, numbers, chart.legend);
  function update() {
    const row = feed.rows[feed.rows.length - 1];
    now.replaceChildren(...kpi.series.map(s => {
      const v = row ? s.get(row) : NaN;
      return h("span", null, format(v), kpi.named && h("small", null, mark(s), s.name));
    }));
    chart.draw();
    if (!numbers.hidden)
      numbers.replaceChildren(table(`${kpi.title}, newest first`, [{ name: "time" }, ...kpi.series.map(s => ({ name: s.name, num: true }))], chart.rows()));
  }
  return { el, update, chart };
}

let chosen = "300";                      // seconds of the curves, while the page lives

export function overview(main) {
  const cards = KPIS.map(card);
  const facts = h("div.facts");
  const range = h("select", { id: "range", onchange: () => { chosen = range.value; update(); } },
    [["60", "1 minute"], ["300", "5 minutes"], ["900", "15 minutes"]].map(([v, text]) =>
      h("option", { value: v, selected: v === chosen }, text)));
  main.append(
    h("div.head", null, h("h1", null, "Overview"), facts, h("span.grow"),
      h("div.inline", null, h("label", { for: "range" }, "Last"), range)),
    h("div.kpis", null, cards.map(c => c.el)));
  function update() {
    for (const c of cards) {
      c.chart.width = Number(chosen);
      c.update();
    }
    const row = feed.rows[feed.rows.length - 1] || {};
    facts.replaceChildren(...[
      count(feed.total("lavva_connections"), "connection"), `CPU ${Number.isFinite(row.cpu) ? Math.round(row.cpu * 100) : "–"} %`,
      `memory ${bytes(row.rss)}`, `log ${bytes(feed.total("lavva_broker_disk_bytes"))}`,
    ].map(t => h("span", null, t)));
  }
  const off = feed.on(update);
  return { end() { off(); cards.forEach(c => c.chart.end()); }, theme() { cards.forEach(c => c.chart.forget()); update(); } };
}
