/* What each app has used: since the start from /metrics, by minute, hour or day from the book of
 * usage (REST, as an administrator). */
import { h, whole, bytes, short, seconds, table, empty } from "./dom.js";
import { feed } from "./metrics.js";
import { api, who, onChange, refusal } from "./state.js";

const UNITS = [
  ["messages in", "messages_in", whole], ["messages out", "messages_out", whole],
  ["bytes in", "bytes_in", bytes], ["bytes out", "bytes_out", bytes],
  ["connection-minutes", "connection_minutes", whole], ["channel-minutes", "channel_minutes", whole],
  ["stored byte-hours", "stored_byte_hours", v => (Number.isFinite(v) ? short(v) : "–")], ["history reads", "history_reads", whole],
];
const SPANS = {
  start: ["Since the start"], hour: ["Last hour", 3600, "minute"], day: ["Last 24 hours", 86400, "hour"], month: ["Last 30 days", 30 * 86400, "day"],
};
const COLUMNS = [{ name: "app" }, ...UNITS.map(([name]) => ({ name, num: true }))];

/* Pages of a question, put together; bounded by what 30 days of 20 apps are. */
async function ask(seconds, step) {
  const now = Date.now(), base = `?from=${new Date(now - seconds * 1000).toISOString()}&to=${new Date(now).toISOString()}&step=${step}&limit=1000`;
  const items = [];
  let after = "";
  do {
    const page = await api("GET", `/usage${base}${after && `&after=${encodeURIComponent(after)}`}`);
    items.push(...page.items);
    after = page.next || "";
  } while (after && items.length < 20000);
  return items;
}

/* A column a bucket, messages in below messages out. */
function columns(items, step) {
  const by = new Map();
  for (const i of items) {
    const b = by.get(i.from) || { from: i.from, in: 0, out: 0 };
    b.in += i.messages_in;
    b.out += i.messages_out;
    by.set(i.from, b);
  }
  const rows = [...by.values()].sort((a, b) => (a.from < b.from ? -1 : 1)), most = Math.max(1, ...rows.map(r => r.in + r.out));
  const name = at => (step === "day" ? at.slice(0, 10) : new Date(at).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" }));
  const bars = h("div.bars", { role: "img", "aria-label": `Messages by ${step}, ${rows.length} of them used; the most in one: ${whole(most)}. The table below has the sums.` });
  for (const r of rows) {
    const bar = h("div.bar-col", { title: `${name(r.from)}: ${whole(r.in)} in, ${whole(r.out)} out` }, h("i.out"), h("i.in"));
    bar.children[0].style.height = `${100 * r.out / most}%`;
    bar.children[1].style.height = `${100 * r.in / most}%`;
    bars.append(bar);
  }
  const ends = rows.length ? [h("span", null, name(rows[0].from)), h("span", null, name(rows[rows.length - 1].from))] : [];
  return h("div", null, bars, h("div.ends", null, ends),
    h("div.legend", null, h("span", null, h("i.s1"), "messages in"), h("span", null, h("i.s2"), "messages out"), h("span", null, `highest ${whole(most)} in a ${step}`)));
}

export function usage(main) {
  let span = "start", asked = 0;
  const box = h("section.card", { id: "usage", "aria-label": "Usage by app" });
  const choose = h("select", { id: "span", onchange: () => { span = choose.value; refresh(); } },
    Object.entries(SPANS).map(([v, [text]]) => h("option", { value: v }, text)));
  main.append(h("div.head", null, h("h1", null, "Usage"), h("span.grow"), h("div.inline", null, h("label", { for: "span" }, "Show"), choose)),
    h("p.note", null, "Publishing counts once, each delivery once; a message is one for each 5 KiB of channel, key, value and properties."), box);

  function live() {
    const apps = [...new Set(feed.samples("lavva_usage_messages_in_total").map(s => s.labels.app))];
    box.replaceChildren(table(`Since the process started${feed.now ? `, ${seconds(Date.now() / 1000 - feed.total("process_start_time_seconds"))} ago` : ""}`, COLUMNS,
      apps.map(app => [app, ...UNITS.map(([, id, format]) => format(feed.total(`lavva_usage_${id}_total`, { app })))]), "Nothing used yet."));
  }

  async function refresh() {
    if (span === "start") {
      live();
      return;
    }
    const mine = ++asked, [text, length, step] = SPANS[span];
    box.setAttribute("aria-busy", "true");
    try {
      if (!who.admin) throw Object.assign(new Error("there is none"), { status: 401 });
      const items = await ask(length, step);
      if (mine !== asked || span === "start") return;
      const by = new Map();
      for (const i of items) {
        const sum = by.get(i.app) || {};
        for (const [, id] of UNITS) sum[id] = (sum[id] || 0) + (i[id] || 0);
        by.set(i.app, sum);
      }
      box.replaceChildren(...(items.length ? [columns(items, step), table(text, COLUMNS, [...by].map(([app, sum]) => [app, ...UNITS.map(([, id, format]) => format(sum[id]))]))] : [empty(`Nothing was used in the ${text.toLowerCase()}.`, { kind: "usage" })]));
    } catch (e) {
      if (mine === asked && span !== "start") box.replaceChildren(empty(refusal(e), { kind: "key", error: true }));
    }
    box.removeAttribute("aria-busy");
  }
  const off = feed.on(() => span === "start" && live()), offKeys = onChange(refresh);
  const again = setInterval(() => span !== "start" && !document.hidden && refresh(), 10000);
  return { end() { off(); offKeys(); clearInterval(again); }, theme() {} };
}
