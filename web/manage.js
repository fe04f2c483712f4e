/* Apps, channels and keys over the REST API: seen, made, taken away. */
import { h, table, toast, count, ask, empty, field, choice } from "./dom.js";
import { api, all, who, change, onChange, refusal } from "./state.js";

const list = text => text.split(/[\s,]+/).filter(Boolean);

function form(title, fields, button, act) {
  const why = h("p.error", { role: "alert" });
  const f = h("form", { "aria-label": title, onsubmit: async e => {
    e.preventDefault();
    why.textContent = "";
    f.querySelector("button").disabled = true;
    try { await act(Object.fromEntries(new FormData(f)), f); } catch (err) { why.textContent = err.message; }
    f.querySelector("button").disabled = false;
  } }, h("div.row", null, fields, h("button.primary", { type: "submit" }, button)), why);
  return f;
}

function origin(o) {
  return h("span.pill", null, o.origin === "file" ? "in the configuration" : o.origin === "auto" ? "made by a publish" : "here");
}

export function manage(main) {
  let app = who.app, ended = false;
  const apps = h("select", { id: "m-app", onchange: () => { app = apps.value; refresh(); } });
  const body = h("div.stack");
  main.append(h("div.head", null, h("h1", null, "Manage"), h("span.grow"), h("label.inline", { for: "m-app" }, "App"), h("span", null, apps)), body);

  const secret = h("div", { role: "status" });
  const channelBox = h("div", { id: "m-channels" }), keyBox = h("div", { id: "m-keys" });
  const path = () => `/apps/${encodeURIComponent(app)}`;

  async function remove(what, at) {
    if (!await ask(`Delete ${what}?`, "Delete")) return;
    try { await api("DELETE", at); toast(`${what} is gone`); } catch (e) { toast(e.message); }
    refresh();
  }
  const deletable = (o, what, at) => (o.origin === "store" ? h("button.danger", { type: "button", "aria-label": `Delete ${what}`, onclick: () => remove(what, at) }, "Delete") : "");

  function showSecret(k) {
    const code = h("code", null, k.key);
    secret.replaceChildren(h("p", null, "The new key. It is shown this once; the server keeps only its hash."),
      h("div.secret", null, code,
        h("button", { type: "button", onclick: async () => { try { await navigator.clipboard.writeText(k.key); toast("copied"); } catch { getSelection().selectAllChildren(code); toast("selected: copy it with the keyboard"); } } }, "Copy"),
        h("button", { type: "button", onclick: () => { change({ app, key: k.key }); toast("used in this tab now"); } }, "Use here")));
  }

  const channelForm = form("New channel", [
    field("name", "Name", { required: true, pattern: "[A-Za-z0-9.\\-][A-Za-z0-9._\\-]{0,63}", title: "letters, digits, . _ -, not starting with _" }),
    choice("durability", "Durability", [["disk", "disk: survives power loss"], ["memory", "memory: survives kill -9"]]),
    choice("content", "Content", [["auto", "anything"], ["json", "JSON"], ["text", "text"], ["binary", "bytes"]]),
  ], "Create channel", async (v, f) => {
    await api("POST", `${path()}/channels`, v);
    toast(`channel ${v.name} is there`);
    f.reset();
    await refresh();
  });
  const keyForm = form("New key", [
    field("id", "Id", { pattern: "[A-Za-z0-9]{1,32}", title: "letters and digits; empty: a random one", placeholder: "random" }),
    field("publish", "May publish to", { value: "#" }), field("subscribe", "May read", { value: "#" }),
  ], "Create key", async v => {
    const body = { publish: list(v.publish), subscribe: list(v.subscribe) };
    if (v.id) body.id = v.id;
    showSecret(await api("POST", `${path()}/keys`, body));
    await refresh();
  });

  async function refresh() {
    if (!who.admin) {
      body.replaceChildren(h("div.card", null, empty("Channels and keys are an administrator's to make. Enter that key under Keys, above; in a development instance it is LAVVA_ADMIN_KEY in dev.env.", { kind: "key" })));
      return;
    }
    try {
      const found = await all("/apps");
      if (ended) return;
      if (!found.some(a => a.name === app)) app = found.length ? found[0].name : "";
      apps.replaceChildren(...found.map(a => h("option", { value: a.name, selected: a.name === app }, a.name)));
      if (!app) {
        body.replaceChildren(h("div.card", null, empty("There is no app yet. Make one with: lavva app create NAME")));
        return;
      }
      const [chans, keys] = await Promise.all([all(`${path()}/channels`), all(`${path()}/keys`)]);
      if (ended) return;
      channelBox.replaceChildren(table(count(chans.length, "channel"), [{ name: "name" }, { name: "durability" }, { name: "content" }, { name: "from" }, { name: "" }],
        chans.slice(0, 500).map(c => [c.name, c.durability, c.content, origin(c), deletable(c, `channel ${c.name}`, `${path()}/channels/${encodeURIComponent(c.name)}`)]), "No channel yet."));
      keyBox.replaceChildren(table(count(keys.length, "key"), [{ name: "id" }, { name: "publish" }, { name: "subscribe" }, { name: "from" }, { name: "" }],
        keys.slice(0, 500).map(k => [k.id, (k.publish || []).join(" ") || "–", (k.subscribe || []).join(" ") || "–", origin(k), deletable(k, `key ${k.id}`, `${path()}/keys/${encodeURIComponent(k.id)}`)]), "No key yet."));
      if (!channelForm.isConnected)
        body.replaceChildren(h("section.card", { "aria-label": "Channels" }, h("h2", null, "Channels"), channelForm, channelBox),
          h("section.card", { "aria-label": "Keys" }, h("h2", null, "Keys"), keyForm, secret, keyBox));
    } catch (e) {
      body.replaceChildren(h("div.card", null, empty(refusal(e), { kind: "key", error: true })));
    }
  }
  const offKeys = onChange(refresh);
  refresh();
  return { end() { ended = true; offKeys(); }, theme() {} };
}
