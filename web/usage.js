/* What each app has used. */
import { h, whole, bytes, short, table } from "./dom.js";
import { feed } from "./metrics.js";

const UNITS = [
  ["messages in", "messages_in", whole], ["messages out", "messages_out", whole],
  ["bytes in", "bytes_in", bytes], ["bytes out", "bytes_out", bytes],
  ["connection-minutes", "connection_minutes", whole], ["channel-minutes", "channel_minutes", whole],
  ["stored byte-hours", "stored_byte_hours", v => (Number.isFinite(v) ? short(v) : "–")], ["history reads", "history_reads", whole],
];

export function usage(main) {
  const box = h("section.card", { id: "usage" });
  main.append(h("div.head", null, h("h1", null, "Usage")),
    h("p.note", null, "Since the process started. A message counts once for each 5 KiB of channel, key, value and properties. Hours and days are in GET /api/v1/usage and in lavva usage."), box);
  function update() {
    const apps = [...new Set(feed.samples("lavva_usage_messages_in_total").map(s => s.labels.app))];
    box.replaceChildren(table("By app", [{ name: "app" }, ...UNITS.map(([name]) => ({ name, num: true }))],
      apps.map(app => [app, ...UNITS.map(([, id, format]) => format(feed.total(`lavva_usage_${id}_total`, { app })))]), "Nothing used yet."));
  }
  const off = feed.on(update);
  return { end: off, theme() {} };
}
