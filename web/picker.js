/* A list of any length of which only what is in sight is in the document. A listbox: arrows, Home,
 * End and Page keys move, Enter or a click chooses. */
import { h } from "./dom.js";

const ROW = 40;                          // as in app.css
let made = 0;

export class Picker {
  /* draw(item) → children of its row; chosen(item) → bool; choose(item). An item has a unique id. */
  constructor(label, { draw, chosen, choose }) {
    Object.assign(this, { draw, chosen, choose, items: [], active: 0, prefix: `pick${++made}` });
    this.inner = h("div.inner");
    this.el = h("div.picker", { tabindex: "0", role: "listbox", "aria-label": label,
      onscroll: () => this.later(), onkeydown: e => this.key(e), onclick: e => this.click(e), onfocus: () => this.show() }, this.inner);
  }

  set(items) {
    const at = this.items[this.active];
    this.items = items;
    const i = at ? items.findIndex(x => x.id === at.id) : 0;
    this.active = Math.max(0, i);
    this.show();
  }

  later() {
    if (!this.frame) this.frame = requestAnimationFrame(() => { this.frame = 0; this.show(); });
  }

  /* Rows are used again, so that a press and its release meet the same element. */
  show() {
    this.inner.style.height = `${this.items.length * ROW}px`;
    const height = this.el.clientHeight || 400;
    const first = Math.max(0, Math.floor(this.el.scrollTop / ROW) - 4);
    const last = Math.min(this.items.length, Math.ceil((this.el.scrollTop + height) / ROW) + 4);
    for (let i = first; i < last; i++) {
      let row = this.inner.children[i - first];
      if (!row) this.inner.append(row = h("div", { role: "option" }));
      const item = this.items[i];
      row.className = i === this.active ? "option active" : "option";
      row.id = `${this.prefix}-${i}`;
      row.dataset.i = i;
      row.setAttribute("aria-selected", String(this.chosen(item)));
      row.setAttribute("aria-setsize", this.items.length);
      row.setAttribute("aria-posinset", i + 1);
      row.style.top = `${i * ROW}px`;
      row.replaceChildren(...this.draw(item));
    }
    while (this.inner.childElementCount > Math.max(0, last - first)) this.inner.lastElementChild.remove();
    if (this.items.length) this.el.setAttribute("aria-activedescendant", `${this.prefix}-${this.active}`);
    else this.el.removeAttribute("aria-activedescendant");
  }

  click(e) {
    const row = e.target.closest("[data-i]");
    if (row) this.take(Number(row.dataset.i));
  }

  take(i) {
    this.active = i;
    if (this.items[i]) this.choose(this.items[i]);
    this.show();
  }

  key(e) {
    const page = Math.max(1, Math.floor(this.el.clientHeight / ROW) - 1), n = this.items.length;
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -n, End: n }[e.key];
    if (e.key === "Enter" || e.key === " ") {
      e.preventDefault();
      this.take(this.active);
    } else if (step && n) {
      e.preventDefault();
      this.active = Math.min(n - 1, Math.max(0, this.active + step));
      const top = this.active * ROW;
      if (top < this.el.scrollTop) this.el.scrollTop = top;
      else if (top + ROW > this.el.scrollTop + this.el.clientHeight) this.el.scrollTop = top + ROW - this.el.clientHeight;
      this.show();
    }
  }

  end() { cancelAnimationFrame(this.frame); }
}
