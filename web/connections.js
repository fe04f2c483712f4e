/* Who is connected, how far behind, and what was dropped or refused, and why. */
import { h, short, whole, table, seconds, empty } from "./dom.js";
import { feed } from "./metrics.js";

/* Samples summed by some of their labels: [[values…], sum, rate]. */
function by(name, labels) {
  const groups = new Map();
  for (const s of feed.samples(name)) {
    const values = labels.map(l => s.labels[l] || "");
    groups.set(values.join("\u0000"), values);
  }
  return [...groups.values()].map(values => {
    const match = Object.fromEntries(labels.map((l, i) => [l, values[i]]).filter(([, v]) => v !== ""));
    return { values, total: feed.total(name, match), rate: feed.rate(name, match) };
  });
}
const rate = v => (Number.isFinite(v) ? `${short(v)}/s` : "–");

export function connections(main) {
  const names = { connections: "Open connections", drops: "Message drops", rejections: "Refused publishes", consumers: "Consumers", loops: "The process" };
  const boxes = Object.entries(names).map(([id, name]) => h("section.card", { id: `c-${id}`, "aria-label": name }));
  main.append(h("div.head", null, h("h1", null, "Connections")), h("div.columns", null, boxes));
  const [conns, drops, rejections, consumers, loops] = boxes;

  function update() {
    conns.replaceChildren(h("h2", null, "Open connections"), table("By protocol",
      [{ name: "protocol" }, { name: "open", num: true }, { name: "opened", num: true }, { name: "closed", num: true }],
      by("lavva_connections", ["protocol"]).filter(r => r.total || feed.total("lavva_connections_opened_total", { protocol: r.values[0] }))
        .map(r => [r.values[0], whole(r.total), whole(feed.total("lavva_connections_opened_total", { protocol: r.values[0] })),
          whole(feed.total("lavva_connections_closed_total", { protocol: r.values[0] }))]), "Nobody yet."));
    drops.replaceChildren(h("h2", null, "Message drops"), table("By stage and reason",
      [{ name: "stage" }, { name: "reason" }, { name: "rate", num: true }, { name: "in all", num: true }],
      by("lavva_drops_total", ["stage", "reason"]).filter(r => r.total).map(r => [...r.values, rate(r.rate), whole(r.total)]), empty("No message was dropped since the start.", { kind: "check" })));
    rejections.replaceChildren(h("h2", null, "Refused publishes"), table("By reason",
      [{ name: "reason" }, { name: "rate", num: true }, { name: "in all", num: true }],
      by("lavva_gateway_rejected_messages_total", ["reason"]).filter(r => r.total).map(r => [...r.values, rate(r.rate), whole(r.total)]), empty("Every publish was accepted.", { kind: "check" })));
    consumers.replaceChildren(h("h2", null, "Consumers"), table("By app",
      [{ name: "app" }, { name: "sessions", num: true }, { name: "subscriptions", num: true }, { name: "pending", num: true }, { name: "behind", num: true }],
      by("lavva_subscriptions", ["app"]).map(r => [r.values[0], whole(feed.total("lavva_sessions", { app: r.values[0] })), whole(r.total),
        whole(feed.total("lavva_hub_pending_messages", { app: r.values[0] })), whole(feed.total("lavva_consumer_lag_max_messages", { app: r.values[0] }))]), "None yet."));
    const commits = feed.rate("lavva_broker_commit_latency_seconds_count"), spent = feed.rate("lavva_broker_commit_latency_seconds_sum");
    loops.replaceChildren(h("h2", null, "The process"), table("Load", [{ name: "what" }, { name: "now", num: true }], [
      ...by("lavva_loop_busy_seconds_total", ["loop"]).map(r => [`loop ${r.values[0]} busy`, Number.isFinite(r.rate) ? `${Math.round(r.rate * 100)} %` : "–"]),
      ["commit latency, mean", commits > 0 ? seconds(spent / commits) : "–"],
      ["waiting to be written", whole(feed.total("lavva_publish_inflight_messages"))],
      ["failed logins", whole(feed.total("lavva_auth_failures_total"))],
    ]));
  }
  const off = feed.on(update);
  return { end: off, theme() {} };
}
