// The configuration: what the gateway runs with, and its files as text: check, apply, take back.

import { card, confirmed, h, redraw, say, toast } from "../dom.js";
import { gateway } from "../gateway.js";
import { tree } from "./health.js";
import { moduleForm } from "../addition.js";

const WATCH_S = 30; // how long a change is watched before it counts as good
const STATUS_S = 2; // it comes each second: what is longer was a pause, in which nothing was seen

export async function open({ root, query, on }) {
  let file = null; // {name, text, revision, editable, backup}
  let look = () => {}; // what to do with the status while a change is watched
  const files = h("select", { "aria-label": "File", onchange: () => read(files.value) });
  const text = h("textarea", { spellcheck: "false", autocapitalize: "off", autocomplete: "off", wrap: "off", "aria-label": "Text of the file", oninput: edited });
  const numbers = h("pre", { class: "numbers", "aria-hidden": "true" });
  const problems = h("ul", { class: "problems", role: "status" });
  const checking = h("button", { type: "button", onclick: check }, "Check");
  const applying = h("button", { type: "button", class: "primary", onclick: apply }, "Apply");
  const back = h("button", { type: "button", onclick: takeBack }, "Take back the last change");
  const watch = h("div", { role: "alert" });
  const note = h("span", { class: "muted" });
  const addition = h("div", {});
  const effective = h("div", {});
  const adding = h("button", { type: "button", "aria-expanded": "false", onclick: add }, "Add a connection …");
  const editor = h("div", {}, watch, h("div", { class: "tools" }, files, note), h("div", { class: "editor" }, numbers, text), h("div", { class: "tools" }, checking, applying, back, adding), addition, problems);
  const section = card("Files", editor);
  root.append(section, card("What the gateway runs with", effective));
  on("status", (status) => look(status));

  async function load() {
    let answer;
    try {
      answer = await gateway.get("config");
    } catch (error) {
      redraw(section, error.message, () => [h("h2", {}, "Files"), h("p", { class: "why" }, error.status === 403 || error.status === 401
        ? "Only a browser with the role admin may see the configuration: name its network in the option admin, or pair it with fixgw web pair --role admin." : error.message)]);
      return;
    }
    const option = (each) => h("option", { value: each.name }, each.name);
    const own = answer.files.filter((each) => each.editable), others = answer.files.filter((each) => !each.editable);
    files.replaceChildren(...[["Yours", own], ["Read only", others]].filter(([, names]) => names.length)
      .map(([label, names]) => h("optgroup", { label }, names.map(option))));
    effective.replaceChildren(tree(answer.effective));
    show(answer.problems.map((words) => ({ message: words })), []);
    await read(query.get("file") ?? (answer.files.find((each) => each.main) ?? answer.files[0]).name);
  }

  const changed = () => file && text.value !== file.text;

  async function read(name) {
    if (changed() && !(await confirmed("What you have changed is not applied.", "Leave the file"))) return void (files.value = file.name);
    use(await gateway.get(`config/files/${name.split("/").map(encodeURIComponent).join("/")}`));
    show([], []);
    if (query.has("line")) goTo(Number(query.get("line")));
  }

  function use(facts) {
    file = facts;
    text.value = facts.text;
    text.readOnly = !facts.editable;
    files.value = facts.name;
    edited();
  }

  function edited() {
    const lines = text.value.split("\n").length;
    if (numbers.count !== lines) {
      numbers.count = lines;
      numbers.replaceChildren(...Array.from({ length: lines }, (_, n) => h("span", { "data-line": n + 1 }, `${n + 1}\n`)));
    }
    text.style.height = `${lines * 1.5 + 2.2}em`;
    applying.disabled = !file?.editable || !changed();
    checking.disabled = !file?.editable;
    adding.hidden = !(file?.editable && file.main);
    back.hidden = !file?.editable || !file.backup;
    say(note, changed() ? "Not applied yet" : file?.editable ? "" : "This file comes with the package: copy it with fixgw config init to change it.");
  }

  function goTo(line) {
    const starts = text.value.split("\n").slice(0, line - 1).reduce((sum, each) => sum + each.length + 1, 0);
    text.focus();
    text.setSelectionRange(starts, starts + (text.value.split("\n")[line - 1] ?? "").length);
    numbers.querySelector(`[data-line="${line}"]`)?.scrollIntoView({ block: "center" });
  }

  function show(found, advice) {
    for (const each of numbers.querySelectorAll(".wrong")) each.classList.remove("wrong");
    const entry = (each, level) => {
      const here = each.line && (each.file === file?.name || !each.file);
      if (here && level === "fail") numbers.querySelector(`[data-line="${each.line}"]`)?.classList.add("wrong");
      const place = each.line ? `${each.file ?? ""}:${each.line}:${each.column ?? ""} ` : "";
      return h("li", { class: `why ${level}` }, here ? h("button", { type: "button", onclick: () => goTo(each.line) }, `Line ${each.line}`) : place, " ", each.message);
    };
    problems.replaceChildren(...found.map((each) => entry(each, "fail")), ...advice.map((each) => entry(each, "bad")));
  }

  async function check() {
    try {
      const answer = await gateway.ask("POST", "config/check", { file: file.name, text: text.value });
      show(answer.problems, answer.advice);
      if (!answer.problems.length) {
        problems.prepend(h("li", { class: "why good" }, answer.connections.length ? `✓ No problems. Applying it changes: ${answer.connections.join(", ")}` : "✓ No problems. It changes no connection."));
      }
    } catch (error) {
      toast(error.message, "error");
    }
  }

  async function apply() {
    try {
      const given = text.value;
      const answer = await gateway.act("PUT", `config/files/${file.name.split("/").map(encodeURIComponent).join("/")}`, { text: given, revision: file.revision });
      file = { ...file, text: given, revision: answer.revision, backup: true };
      edited();
      show([], answer.advice);
      observe(answer.connections);
    } catch (error) {
      if (error.answer?.code === "problems") show(error.answer.problems, error.answer.advice);
      toast(error.message, "error");
    }
  }

  /** See whether the changed connections become well; if not, offer the way back. */
  function observe(connections) {
    let watched = 0, before = performance.now();
    look = (status) => {
      const now = performance.now();
      watched += Math.min(STATUS_S, (now - before) / 1000);
      before = now;
      const health = (name) => status.connections[name]?.health ?? "ok"; // one that was removed is well
      const unwell = connections.filter((name) => health(name) !== "ok");
      const late = watched > WATCH_S;
      redraw(watch, [unwell.map((name) => [name, health(name)]), late], () => unwell.length === 0 ? h("p", { class: "why good" }, late ? `Applied. ${connections.join(", ") || "All"} well after ${WATCH_S} s.` : "Applied. Watching what has changed …")
        : h("div", { class: "why fail" }, h("p", {}, `${late ? "Still not well" : "Not well yet"}: ${unwell.map((name) => `${name}: ${health(name)}`).join("; ")}`),
          h("button", { type: "button", class: "danger", onclick: takeBack }, "Take the change back")));
      if (late) look = () => {};
    };
    redraw(watch, null, () => h("p", { class: "why good" }, "Applied. Watching what has changed …"));
  }

  async function takeBack() {
    if (changed() && !(await confirmed("What you have changed since is not applied.", "Drop it, too"))) return;
    try {
      const facts = await gateway.act("POST", "config/take-back", { file: file.name });
      look = () => {};
      redraw(watch, ["back"], () => h("p", { class: "why good" }, "Taken back."));
      use(facts);
      show([], []);
    } catch (error) {
      toast(error.message, "error");
    }
  }

  async function add() {
    const opened = adding.getAttribute("aria-expanded") === "true";
    adding.setAttribute("aria-expanded", String(!opened));
    addition.replaceChildren(...(opened ? [] : [h("p", { class: "muted" }, "Looking what modules there are …")]));
    if (!opened) addition.replaceChildren(await moduleForm((yaml) => {
      const line = insert(yaml);
      addition.replaceChildren();
      adding.setAttribute("aria-expanded", "false");
      edited();
      goTo(line);
      check();
    }));
  }

  /** Put a connection into the text, so that comments stay. Returns its line. */
  function insert(yaml) {
    const lines = text.value.replace(/\n*$/, "\n").split("\n");
    let at = lines.findIndex((line) => /^connections:/.test(line));
    if (at < 0) at = lines.push("connections:") - 1;
    lines[at] = lines[at].replace(/^connections:\s*(\{\}|~|null)?/, "connections:");
    const first = lines.slice(at + 1).find((line) => /^\s+[^\s#]/.test(line));
    const indent = first?.match(/^\s+/)[0] ?? "  ";
    lines.splice(at + 1, 0, ...yaml.map((line) => indent + line), "");
    text.value = lines.join("\n");
    return at + 2;
  }

  on("hello", () => { if (!file) load(); });
  gateway.subscribe({ status: true });
  await load();
}
