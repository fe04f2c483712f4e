/* Who we are to the server. Keys come from the dialog or from the address's fragment, which no
 * request carries and which is taken out of the address at once; they live as long as the tab. */
const NAMES = ["app", "key", "admin"];
const listeners = new Set();
export const who = { app: "", key: "", admin: "" };

function load() {
  for (const n of NAMES) {
    try { who[n] = sessionStorage.getItem(`lavva-${n}`) || ""; } catch { /* no storage */ }
  }
  const params = new URLSearchParams(location.hash.slice(1));
  if (NAMES.some(n => params.has(n))) {
    for (const n of NAMES) if (params.has(n)) who[n] = params.get(n);
    store();
    history.replaceState(null, "", `${location.pathname}#/overview`);
  }
}
function store() {
  for (const n of NAMES) {
    try { sessionStorage.setItem(`lavva-${n}`, who[n]); } catch { /* no storage */ }
  }
}
export function change(next) {
  Object.assign(who, next);
  store();
  for (const fn of listeners) fn();
}
export function onChange(fn) {
  listeners.add(fn);
  return () => listeners.delete(fn);
}
load();

/* The REST API, as an administrator. Errors carry the server's sentence and `status`. */
export async function api(method, path, body) {
  const init = { method, headers: { Authorization: `Bearer ${who.admin}` }, cache: "no-store" };
  if (body !== undefined) {
    init.headers["Content-Type"] = "application/json";
    init.body = JSON.stringify(body);
  }
  const r = await fetch(`/api/v1${path}`, init);
  const text = await r.text();
  let json = null;
  try { json = text ? JSON.parse(text) : null; } catch { /* not ours: the status says it */ }
  if (!r.ok) throw Object.assign(new Error((json && json.error) || `HTTP ${r.status}`), { status: r.status });
  return json;
}

/* All items of a list. */
export async function all(path, most = 20000) {
  const items = [];
  let after = "";
  do {
    const page = await api("GET", `${path}?limit=1000${after && `&after=${encodeURIComponent(after)}`}`);
    items.push(...page.items);
    after = page.next || "";
  } while (after && items.length < most);
  return items;
}

/* An error of the REST API as a sentence. */
export function refusal(e) {
  if (e.status === 404) return "Not available: this server has no such route.";
  if (e.status === 401 || e.status === 403) return `Not available with the administrator's key in this tab: ${e.message}.`;
  return e.status ? e.message : "Not available: the server does not answer.";
}
