/* Newest messages as lines: the last ones are kept, those that pass the filter are drawn, once a
 * frame however many come. */
import { h, clock, value, whole } from "./dom.js";

const LINES = 200, KEPT = 1000;

export class Tail {
  constructor() {
    this.kept = [];                      // {cells, kind}, oldest first; at most KEPT, now and then 2 ×
    this.fresh = 0;                      // of them, not drawn yet
    this.paused = false;
    this.missed = this.seen = 0;
    this.filter = "";
    this.list = h("ol");
    this.none = h("p.empty", null, "No message yet. It appears here the moment it comes.");
    this.box = h("div.tail", { tabindex: "0", role: "log", "aria-live": "off", "aria-label": "Live tail" }, this.none, this.list);
    this.pause = h("button", { type: "button", "aria-pressed": "false", onclick: () => this.toggle() }, "Pause");
    this.clear = h("button", { type: "button", onclick: () => this.empty() }, "Clear");
    this.find = h("input", { type: "search", placeholder: "Only lines with…", "aria-label": "Filter the tail", oninput: () => this.refilter() });
    this.note = h("span.note", { role: "status" });
    this.count = h("span.note");
  }

  controls() { return h("div.row.tight", null, h("div", null, this.find), this.pause, this.clear, this.count, this.note); }

  toggle() {
    this.paused = !this.paused;
    this.missed = 0;
    this.pause.textContent = this.paused ? "Go on" : "Pause";
    this.pause.setAttribute("aria-pressed", String(this.paused));
    this.note.textContent = "";
    this.still = this.paused ? this.kept.slice() : null;
    if (!this.paused) this.redraw();
  }

  empty() {
    this.kept = [];
    if (this.paused) this.still = [];
    this.fresh = this.missed = this.seen = 0;
    this.redraw();
  }

  refilter() {
    this.filter = this.find.value.toLowerCase();
    this.redraw();
  }

  redraw() {
    this.list.replaceChildren();
    this.fresh = (this.still || this.kept).length;
    this.later();
  }

  later() {
    if (!this.frame) this.frame = requestAnimationFrame(() => this.draw());
  }

  line(cells, kind) {
    this.kept.push({ cells, kind });
    if (this.kept.length >= 2 * KEPT) this.kept = this.kept.slice(-KEPT);
    if (this.paused) this.missed++;
    else this.fresh++;
    this.later();
  }

  message(m) {
    this.seen++;
    this.line([clock(m.tms, true), m.key || "–", value(m.val, 400)]);
  }
  told(text) { this.line([clock(Date.now(), true), "", text], "told"); }

  draw() {
    this.frame = 0;
    this.count.textContent = this.seen ? `${whole(this.seen)} received` : "";
    if (this.paused) this.note.textContent = `${whole(this.missed)} more meanwhile`;
    const all = this.still || this.kept, lines = [], from = Math.max(0, all.length - this.fresh);
    for (let i = all.length - 1; i >= from && lines.length < LINES; i--) {
      const { cells, kind } = all[i];
      if (this.filter && !cells.join(" ").toLowerCase().includes(this.filter)) continue;
      lines.push(h(kind ? `li.${kind}` : "li", null, cells.map(c => h("span", null, c))));
    }
    this.fresh = 0;
    this.list.prepend(...lines);
    while (this.list.childElementCount > LINES) this.list.lastElementChild.remove();
    this.none.hidden = this.list.childElementCount > 0;
    this.none.textContent = this.filter && all.length ? "No line has that." : "No message yet. It appears here the moment it comes.";
  }

  end() { cancelAnimationFrame(this.frame); }
}
