/* The last message of each key. Rows stay where they are and change in place, four times a second at
 * most; a key is a button that shows its message whole. */
import { h, clock, value, empty, whole } from "./dom.js";
import { json, hex } from "./msgpack.js";

const KEYS = 1000, ROWS = 100, EVERY_MS = 250;

/* One message, whole, in a dialog. */
export function showMessage(m) {
  const facts = [["Channel", m.chn], ["Key", m.key || "none"], ["Position", m.pos], ["Publisher", m.pid], ["Tag", m.tag], ["Category", m.cat], ["Time", new Date(m.tms).toISOString()]];
  const text = m.val instanceof Uint8Array ? hex(m.val, 4096) : typeof m.val === "string" ? m.val : json(m.val, "  ");
  const d = h("dialog.wide", { "aria-labelledby": "msg-title", onclose: () => d.remove() },
    h("form", { method: "dialog" }, h("h2", { id: "msg-title" }, "Message"),
      h("dl", null, facts.filter(([, v]) => v).map(([k, v]) => [h("dt", null, k), h("dd", null, String(v))]).flat()),
      h("pre", { tabindex: "0", "aria-label": "Value" }, text),
      h("div.row.end", null, h("button.primary", null, "Close"))));
  document.body.append(d);
  d.showModal();
}

export class Latest {
  constructor() {
    this.keys = new Map();               // key → {m, row}
    this.filter = "";
    this.find = h("input.small", { type: "search", placeholder: "Only keys with…", "aria-label": "Filter keys", oninput: () => { this.filter = this.find.value.toLowerCase(); this.layout = true; this.draw(); } });
    this.body = h("tbody");
    this.caption = h("caption");
    this.none = empty("No message yet.");
    this.table = h("div.scroll", { hidden: true, tabindex: "0", role: "region", "aria-label": "Last message of each key" },
      h("table.fixed", null, this.caption, h("thead", null, h("tr", null, h("th.key", { scope: "col" }, "key"), h("th", { scope: "col" }, "value"), h("th.num.time", { scope: "col" }, "time"))), this.body));
    this.el = h("div", { id: "latest" }, this.none, this.table);
  }

  message(m) {
    const known = this.keys.get(m.key);
    if (known) {
      known.m = m;
      known.changed = true;
    } else {
      this.keys.set(m.key, { m, row: null });
      if (this.keys.size > KEYS) this.keys.delete(this.keys.keys().next().value);
      this.layout = true;
    }
    if (!this.timer) this.timer = setTimeout(() => { this.timer = 0; this.draw(); }, this.drawn ? EVERY_MS : 30);
  }

  row(key, entry) {
    const name = h("button.link.mono", { type: "button", title: "show the whole message", onclick: () => showMessage(entry.m) }, key || "(no key)");
    return h("tr", null, h("td", null, name), h("td", null, h("span.mono.clamp")), h("td.num"));
  }

  draw() {
    this.drawn = true;
    if (this.layout) {
      this.layout = false;
      const shown = [...this.keys].filter(([key]) => key.toLowerCase().includes(this.filter))
        .sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true }));
      this.shown = shown.slice(0, ROWS).map(([key, entry]) => {
        if (!entry.row) entry.row = this.row(key, entry);
        entry.changed = true;
        return entry;
      });
      this.body.replaceChildren(...this.shown.map(e => e.row));
      this.caption.textContent = shown.length > ROWS ? `${whole(shown.length)} keys, the first ${ROWS} shown` : `${whole(shown.length)} ${shown.length === 1 ? "key" : "keys"}`;
      this.none.hidden = this.keys.size > 0;
      this.table.hidden = this.keys.size === 0;
    }
    for (const e of this.shown || []) {
      if (!e.changed) continue;
      e.changed = false;
      e.row.children[1].firstChild.textContent = value(e.m.val, 300);
      e.row.children[2].textContent = clock(e.m.tms);
    }
  }

  end() { clearTimeout(this.timer); }
}
