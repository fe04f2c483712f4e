/* Sections by the address's fragment, the keys dialog, the theme, the server's state. */
import { who, change } from "./state.js";
import { feed, sum } from "./metrics.js";
import { icon } from "./icons.js";
import { overview } from "./overview.js";
import { channels } from "./channels.js";
import { connections } from "./connections.js";
import { usage } from "./usage.js";
import { manage } from "./manage.js";
import { trial } from "./trial.js";

const SECTIONS = { overview, channels, connections, usage, manage, try: trial };
const WORDS = { up: "", down: "no answer, trying again", refused: "/metrics wants an administrator's key", connecting: "connecting…" };
const main = document.getElementById("main");
let current = null, name = "";

for (const a of document.querySelectorAll("#nav a")) a.prepend(icon(a.hash.slice(2)));
document.getElementById("keys-open").prepend(icon("key"));

function show() {
  const next = location.hash.slice(2) || "overview";
  const section = SECTIONS[next] ? next : "overview";
  if (section === name) return;
  const first = !name;
  if (current) current.end();
  name = section;
  main.replaceChildren();
  current = SECTIONS[section](main);
  for (const a of document.querySelectorAll("#nav a")) {
    if (a.hash === `#/${section}`) a.setAttribute("aria-current", "page");
    else a.removeAttribute("aria-current");
  }
  document.title = `${main.querySelector("h1").textContent} – Lavva`;
  if (!first) main.focus({ preventScroll: true });
  scrollTo(0, 0);
}

/* ---- the dialog ---- */
const dialog = document.getElementById("keys"), form = document.getElementById("keys-form");
document.getElementById("keys-open").addEventListener("click", () => {
  for (const n of ["app", "key", "admin"]) form.elements[n].value = who[n];
  dialog.showModal();
});
document.getElementById("keys-cancel").addEventListener("click", () => dialog.close());
form.addEventListener("submit", () => {
  change({ app: form.elements.app.value.trim(), key: form.elements.key.value.trim(), admin: form.elements.admin.value.trim() });
});

/* ---- the theme ---- */
const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)");
const themeButton = document.getElementById("theme");
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
function drawTheme() {
  themeButton.replaceChildren(icon(isDark() ? "sun" : "moon"));
  if (current) current.theme();
}
drawTheme();
themeButton.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  try { localStorage.setItem("lavva-theme", root.dataset.theme); } catch { /* for this page only */ }
  drawTheme();
});
dark.addEventListener("change", drawTheme);

/* ---- the server ---- */
const status = document.getElementById("status"), text = document.getElementById("status-text");
feed.on(() => {
  status.className = `status ${feed.state}`;
  let what = WORDS[feed.state];
  if (feed.state === "up") {
    const info = feed.samples("lavva_build_info")[0], ran = Date.now() / 1000 - sum(feed.now.sample, "process_start_time_seconds");
    what = `${info ? info.labels.version : "up"}, ${since(ran)}`;
  }
  if (text.textContent !== what) text.textContent = what;
});
function since(s) {
  const m = Math.floor(s / 60);
  if (m < 1) return "just started";
  return `up ${m < 60 ? `${m} min` : m < 2880 ? `${Math.floor(m / 60)} h` : `${Math.floor(m / 1440)} days`}`;
}

addEventListener("hashchange", show);
show();
feed.start();
