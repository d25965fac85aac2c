// The last thousand lines of the log, and those that come.

import { h, say, toast } from "../dom.js";
import { gateway } from "../gateway.js";

const MOST = 1000;
const LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"];

export function open({ root, query, on }) {
  let lines = [];
  let least = query.get("level") ?? "INFO";
  let follow = true;
  const search = h("input", { type: "search", placeholder: "Search the log", "aria-label": "Search", oninput: draw, value: query.get("search") ?? "" });
  const level = h("select", { "aria-label": "Least level", onchange: () => { least = level.value; draw(); } },
    LEVELS.map((name) => h("option", { value: name, selected: name === least }, name.toLowerCase())));
  const connection = h("select", { "aria-label": "Connection", onchange: () => {
    verbose.hidden = !(gateway.may("admin") && connection.value && connection.value !== "*");
    verbose.value = "";
    draw();
  } }, h("option", { value: "*" }, "all connections"));
  const verbose = h("select", { "aria-label": "What this connection logs", hidden: true, onchange: async () => {
    try {
      await gateway.ask("PUT", "log/level", { connection: connection.value, level: verbose.value });
      toast(`${connection.value} logs ${verbose.value.toLowerCase()} from now on`);
    } catch (error) {
      toast(error.message, "error");
    }
  } }, ["", "DEBUG", "INFO", "WARNING", "ERROR"].map((name) => h("option", { value: name, disabled: !name }, name ? `log ${name.toLowerCase()}` : "log level …")));
  const following = h("button", { type: "button", "aria-pressed": "true", onclick: () => {
    follow = !follow;
    following.setAttribute("aria-pressed", String(follow));
    if (follow) draw();
  } }, "Follow");
  const count = h("span", { class: "muted" });
  const list = h("ol", { class: "log", tabindex: "0", "aria-label": "Lines of the log" });
  root.append(h("div", { class: "tools" }, search, level, connection, verbose, following, count), list);

  function shown() {
    const words = search.value.toLowerCase();
    const from = LEVELS.indexOf(least);
    return lines.filter((line) => (LEVELS.indexOf(line.level) < 0 || LEVELS.indexOf(line.level) >= from)
      && (connection.value === "*" || line.connection === connection.value)
      && (!words || `${line.text} ${line.connection}`.toLowerCase().includes(words)));
  }

  const entry = (line) => h("li", { "data-level": line.level },
    h("time", {}, new Date(line.time * 1000).toLocaleTimeString("en-GB")), h("span", { class: "level" }, line.level.toLowerCase()),
    h("span", { class: "who" }, line.connection || "gateway"), h("span", { class: "text" }, line.text));

  function draw() {
    const found = shown();
    list.replaceChildren(...found.map(entry));
    say(count, `${found.length} of ${lines.length}`);
    if (follow) list.scrollTop = list.scrollHeight;
  }

  on("hello", () => { lines = []; });
  on("log", (news) => {
    const last = lines.at(-1)?.number ?? 0;
    lines = [...lines, ...news.filter((line) => line.number > last)].slice(-MOST);
    const names = [...new Set(lines.map((line) => line.connection))].sort();
    for (const name of names) {
      if (![...connection.options].some((option) => option.value === name)) connection.append(h("option", { value: name }, name || "gateway"));
    }
    if (follow || list.children.length === 0) draw();
    else say(count, "new lines");
  });
  gateway.subscribe({ log: 0 });
}
