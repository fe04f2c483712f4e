/* Elements, numbers and times as text. Whatever comes from a message or a name goes in as text,
 * never as markup. */
import { icon } from "./icons.js";
import { json, hex } from "./msgpack.js";

/* h("p.note", {id: "x"}, "text", child, …): an element. Properties that start with "on" are
 * listeners; null and false children are left out. */
export function h(what, props, ...kids) {
  const [tag, ...classes] = what.split(".");
  const el = document.createElement(tag);
  if (classes.length) el.className = classes.join(" ");
  for (const [k, v] of Object.entries(props || {})) {
    if (k.startsWith("on")) el.addEventListener(k.slice(2), v);
    else if (v === true) el.setAttribute(k, "");
    else if (v !== false && v !== null && v !== undefined) el.setAttribute(k, v);
  }
  el.append(...kids.flat().filter(k => k !== null && k !== undefined && k !== false));
  return el;
}

const STEPS = [[1e9, "G"], [1e6, "M"], [1e3, "k"]];

/* 1234567 → "1.23 M" with three figures. */
export function short(v) {
  if (!Number.isFinite(v)) return "–";
  for (const [unit, name] of STEPS)
    if (Math.abs(v) >= unit * 0.9995) return `${figures(v / unit)} ${name}`;
  return figures(v);
}
function figures(v) {
  const a = Math.abs(v);
  if (a === 0) return "0";
  if (a >= 100 || (a >= 1 && Number.isInteger(v))) return String(Math.round(v));
  return a >= 10 ? v.toFixed(1) : v.toFixed(2);
}
export function bytes(v) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  while (Math.abs(v) >= 1024 && i < units.length - 1) { v /= 1024; i++; }
  return Number.isFinite(v) ? `${figures(v)} ${units[i]}` : "–";
}
/* Seconds → "1.24 ms". */
export function seconds(v) {
  if (!Number.isFinite(v) || v <= 0) return "–";
  if (v < 1e-3) return `${figures(v * 1e6)} µs`;
  return v < 1 ? `${figures(v * 1e3)} ms` : `${figures(v)} s`;
}
export function whole(v) {
  return Number.isFinite(v) ? Math.round(v).toLocaleString("en") : "–";
}
export function count(n, one, many) {
  return `${whole(n)} ${n === 1 ? one : many || `${one}s`}`;
}
export function clock(ms, fine) {
  const d = new Date(ms), p = (n, w = 2) => String(n).padStart(w, "0");
  return `${p(d.getHours())}:${p(d.getMinutes())}:${p(d.getSeconds())}${fine ? `.${p(d.getMilliseconds(), 3)}` : ""}`;
}

/* A message's value as one line of text; bytes as hex. */
export function value(v, most = 2000) {
  if (v instanceof Uint8Array) return hex(v);
  const text = typeof v === "string" ? v : json(v);
  return text.length > most ? `${text.slice(0, most)} … (${text.length} characters)` : text;
}

/* What stands where nothing is: a drawing, a sentence, perhaps something to do about it. */
export function empty(text, { kind = "none", action, error } = {}) {
  return h(error ? "div.empty.error" : "div.empty", error ? { role: "alert" } : null, icon(kind), h("p", null, text), action);
}

/* A table: columns [{name, num}], rows of cells (text or elements). */
export function table(caption, columns, rows, none) {
  if (!rows.length) return typeof none === "object" ? none : empty(none || "Nothing yet.");
  return h("div.scroll", { tabindex: "0", role: "region", "aria-label": caption },
    h("table", null, h("caption", null, caption),
      h("thead", null, h("tr", null, columns.map(c => h(c.num ? "th.num" : "th", { scope: "col" }, c.name)))),
      h("tbody", null, rows.map(r => h("tr", null, r.map((cell, i) => h(columns[i].num ? "td.num" : "td", null, cell)))))));
}

let toastTimer = 0;
export function toast(text) {
  const el = document.getElementById("toast");
  el.textContent = text;
  el.classList.add("on");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => el.classList.remove("on"), 4000);
}

/* Asks in a dialog; resolves to whether it was agreed to. */
export function ask(question, yes) {
  return new Promise(resolve => {
    const d = h("dialog", { "aria-labelledby": "ask-text", onclose: () => { d.remove(); resolve(d.returnValue === "yes"); } },
      h("form", { method: "dialog" }, h("h2", { id: "ask-text" }, question),
        h("div.row.end", null, h("button", { value: "no", autofocus: true }, "Cancel"), h("button.primary.danger", { value: "yes" }, yes))));
    document.body.append(d);
    d.showModal();
  });
}

export const field = (id, label, props) => h("div", null, h("label", { for: id }, label),
  h("input", { id, name: id.replace(/^.-/, ""), autocomplete: "off", spellcheck: "false", ...props }));
export const choice = (id, label, options) => h("div", null, h("label", { for: id }, label),
  h("select", { id, name: id.replace(/^.-/, "") }, options.map(([v, t]) => h("option", { value: v }, t))));
