/* The seven KPIs over time. */
import { h, short, seconds, whole, bytes, table, count } from "./dom.js";
import { feed } from "./metrics.js";
import { Chart } from "./chart.js";

const perSecond = v => `${short(v)}/s`;
const KPIS = [
  { id: "gateway-in", title: "Gateway IN", about: "accepted from devices", total: "lavva_gateway_in_messages_total",
    series: [{ name: "in", color: "--s1", get: r => r.gatewayIn }] },
  { id: "gateway-out", title: "Gateway OUT", about: "acknowledged by the broker", total: "lavva_gateway_out_messages_total",
    series: [{ name: "out", color: "--s1", get: r => r.gatewayOut }] },
  { id: "broker", title: "Broker throughput", about: "into and out of the log", total: "lavva_broker_in_messages_total",
    series: [{ name: "in", color: "--s1", get: r => r.brokerIn }, { name: "out", color: "--s2", get: r => r.brokerOut }] },
  { id: "hub-in", title: "Hub IN", about: "taken for subscribers", total: "lavva_hub_in_messages_total",
    series: [{ name: "in", color: "--s2", get: r => r.hubIn }] },
  { id: "hub-out", title: "Hub OUT", about: "delivered to customers", total: "lavva_hub_out_messages_total",
    series: [{ name: "out", color: "--s2", get: r => r.hubOut }] },
  { id: "drops", title: "Message drops", about: "all stages and reasons", total: "lavva_drops_total",
    series: [{ name: "drops", color: "--s1", get: r => r.drops }] },
  { id: "latency", title: "Processing latency", about: "read to written, last 60 s", format: seconds,
    series: [{ name: "p50", color: "--s2", get: r => r["q0.5"] }, { name: "p95", color: "--s3", get: r => r["q0.95"] },
      { name: "p99", color: "--s1", get: r => r["q0.99"] }] },
];

function card(kpi) {
  const format = kpi.format || perSecond;
  const chart = new Chart({ title: kpi.title, series: kpi.series, format });
  const now = h("div.big", { id: `kpi-${kpi.id}` }, "–");
  const numbers = h("div", { hidden: true });
  const toggle = h("button", {
    type: "button", "aria-expanded": "false", "aria-label": `${kpi.title} as a table`,
    onclick: () => {
      numbers.hidden = !numbers.hidden;
      toggle.setAttribute("aria-expanded", String(!numbers.hidden));
      update();
    },
  }, "Table");
  const el = h("section.card", { "aria-labelledby": `kpi-${kpi.id}-name` },
    h("div.top", null, h("h2", { id: `kpi-${kpi.id}-name` }, kpi.title), toggle),
    h("h3", null, kpi.about), now, chart.box, chart.legend, numbers);
  function update() {
    const row = feed.rows[feed.rows.length - 1];
    const v = row ? kpi.series[kpi.series.length === 3 ? 2 : 0].get(row) : NaN;
    const unit = kpi.format ? "p99" : kpi.total ? `${whole(feed.total(kpi.total))} in all` : "";
    now.replaceChildren(format(v).replace("NaN", "–"), h("small", null, unit));
    chart.draw(feed.rows);
    if (!numbers.hidden)
      numbers.replaceChildren(table(kpi.title, [{ name: "time" }, ...kpi.series.map(s => ({ name: s.name, num: true }))], chart.rows()));
  }
  return { el, update, chart };
}

export function overview(main) {
  const cards = KPIS.map(card);
  const facts = h("div.legend", { "aria-label": "The process" });
  const range = h("select", { id: "range", onchange: () => {
    for (const c of cards) c.chart.width = Number(range.value);
    update();
  } }, [["60", "1 minute"], ["300", "5 minutes"], ["900", "15 minutes"]].map(([v, text]) =>
    h("option", { value: v, selected: v === "300" }, text)));
  main.append(
    h("div.head", null, h("h1", null, "Overview"), facts, h("span.grow"),
      h("label.inline", { for: "range" }, "Last"), h("span", null, range)),
    h("div.grid", null, cards.map(c => c.el)));
  function update() {
    for (const c of cards) c.update();
    const row = feed.rows[feed.rows.length - 1] || {};
    const open = feed.total("lavva_connections");
    facts.replaceChildren(...[
      count(open, "connection"), `CPU ${Number.isFinite(row.cpu) ? Math.round(row.cpu * 100) : "–"} %`,
      `memory ${bytes(row.rss)}`, `log ${bytes(feed.total("lavva_broker_disk_bytes"))}`,
    ].map(t => h("span", null, t)));
  }
  const off = feed.on(update);
  return { end() { off(); cards.forEach(c => c.chart.forget()); }, theme() { cards.forEach(c => c.chart.forget()); update(); } };
}
