/* Newest messages as lines, at most so many of them, drawn once a frame however many come. */
import { h, clock, value } from "./dom.js";

const LINES = 200;

export class Tail {
  constructor() {
    this.waiting = [];
    this.paused = false;
    this.missed = 0;
    this.filter = "";
    this.list = h("ol", { "aria-label": "Newest messages" });
    this.box = h("div.tail", { tabindex: "0", role: "log", "aria-live": "off", "aria-label": "Live tail" }, this.list);
    this.pause = h("button", { type: "button", "aria-pressed": "false", onclick: () => this.toggle() }, "Pause");
    this.find = h("input", { type: "search", placeholder: "only lines with…", "aria-label": "Filter the tail", oninput: () => { this.filter = this.find.value.toLowerCase(); } });
    this.note = h("span.note", { role: "status" });
  }

  controls() { return h("div.row", null, h("div", null, this.find), this.pause, this.note); }

  toggle() {
    this.paused = !this.paused;
    this.missed = 0;
    this.pause.textContent = this.paused ? "Go on" : "Pause";
    this.pause.setAttribute("aria-pressed", String(this.paused));
    this.note.textContent = "";
  }

  line(cells, kind) {
    if (this.filter && !cells.join(" ").toLowerCase().includes(this.filter)) return;
    if (this.paused) {
      this.missed++;
    } else {
      this.waiting.push({ cells, kind });
      if (this.waiting.length > LINES) this.waiting.shift();
    }
    if (!this.frame) this.frame = requestAnimationFrame(() => this.draw());
  }

  message(m) { this.line([clock(m.tms), m.key || "–", value(m.val, 400)]); }
  told(text) { this.line([clock(Date.now()), "", text], "told"); }

  draw() {
    this.frame = 0;
    if (this.paused) this.note.textContent = `${this.missed} more meanwhile`;
    if (!this.waiting.length) return;
    const lines = this.waiting.map(({ cells, kind }) => h(kind ? `li.${kind}` : "li", null, cells.map(c => h("span", null, c))));
    this.waiting = [];
    this.list.prepend(...lines.reverse());
    while (this.list.childElementCount > LINES) this.list.lastElementChild.remove();
  }

  end() { cancelAnimationFrame(this.frame); }
}
