// Is everything well, and if not, what is it? Connections, configuration, keys that should be fed, the process.

import { card, h, redraw, span, toast } from "../dom.js";
import { condition, gateway, silent, unwell } from "../gateway.js";

const STATES = { running: "✓", starting: "…", waiting: "↻", failed: "✕", stopped: "■", stopping: "…", loaded: "…" };

const LEVELS = ["fail", "old", "bad", "none", "note"]; // the worst first
const MOST_NAMED = 3; // connections that are named for a group of keys

export function open({ root, query, on, every }) {
  const summary = h("section", { class: "card summary" });
  const attention = card("What needs attention");
  const list = h("div", {});
  attention.append(list);
  const connections = h("ul", { class: "connections" });
  const process = h("dl", { class: "facts" });
  const opened = new Set(query.has("open") ? [query.get("open")] : []);
  const findings = h("div", {});
  const asking = h("button", { type: "button", onclick: askDoctor }, "Ask the doctor");
  root.append(summary, attention, card("Connections", connections), card("This gateway", process),
    card("Doctor", h("p", { class: "muted" }, "Checks the configuration, the devices and the computer, as fixgw doctor does."), asking, findings));

  async function askDoctor() {
    asking.disabled = true;
    findings.replaceChildren(h("p", { class: "muted" }, "It takes a few seconds …"));
    try {
      const answer = await gateway.get("doctor");
      const found = answer.findings.filter((each) => each.level !== "skipped");
      findings.replaceChildren(h("ul", { class: "plain" }, found.map((each) =>
        h("li", { class: `why ${{ ok: "good", warning: "bad", problem: "fail" }[each.level]}` }, h("b", {}, `${each.level === "ok" ? "✓" : "⚠"} ${each.about}`), `: ${each.message}`,
          each.fix && h("pre", {}, each.fix)))));
    } catch (error) {
      findings.replaceChildren(h("p", { class: "why fail" }, error.message));
    } finally {
      asking.disabled = false;
    }
  }

  function show(status) {
    const well = status.health === "ok";
    summary.dataset.health = status.health;
    redraw(summary, [status.summary, status.health], () => [
      h("p", { class: "big" }, well ? "✓ All is well" : status.health === "failed" ? "✕ The gateway has failed" : "⚠ Not all is well"),
      h("p", {}, status.summary)]);
    showAttention();
    redraw(connections, [...opened, Object.entries(status.connections).map(([name, { status: inner, for: since, ...rest }]) =>
      [name, rest, span(since), opened.has(name) && inner])], () =>
      Object.entries(status.connections).map(([name, facts]) => connection(name, facts)));
    const { process: own, database } = status;
    redraw(process, [own, span(status.uptime), database], () => [
      ["Version", status.version], ["Running for", span(status.uptime)],
      ["Processor", `${own["cpu percent"]} % of a core`], ["Memory", `${own["memory MiB"]} MiB, ${own.threads} threads`],
      ["Keys", `${database.items}: ${database["never written"]} never written, ${database.old} old, ${database.bad} bad, ${database.failed} failed`],
      ["Refused values", String(database["refused values"])],
      ["Configuration", status.configuration.file], ["Log", status.log.trouble || "well"],
      ["Settings", status.settings?.trouble || `${status.settings?.kept ?? 0} kept`],
      ["Link to this page", `${gateway.hello?.role ?? ""}, ${location.host}`],
    ].map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd", {}, text))));
  }

  function connection(name, facts) {
    const well = facts.health === "ok";
    const inner = h("div", { class: "inner", hidden: !opened.has(name) });
    const toggle = h("button", { type: "button", class: "open", "aria-expanded": String(opened.has(name)), onclick: () => {
      if (!opened.delete(name)) opened.add(name);
      if (gateway.status) show(gateway.status);
    } }, h("b", {}, name), h("small", {}, facts.module));
    if (opened.has(name)) {
      inner.append(tree(facts.status));
      if (gateway.may("admin")) inner.append(h("button", { type: "button", onclick: async () => {
        await gateway.act("POST", `connections/${encodeURIComponent(name)}/restart`);
        toast(`${name} is being restarted`);
      } }, "Restart it"));
    }
    const words = [facts.state, `for ${span(facts.for)}`, facts.restarts ? `${facts.restarts} restarts` : "",
      facts["next start in"] === null ? "" : `next start in ${span(facts["next start in"])}`].filter(Boolean).join(", ");
    return h("li", { class: well ? "well" : "unwell", id: `c-${name}` }, toggle,
      h("span", { class: "word" }, `${well ? STATES[facts.state] ?? "" : facts.state === "running" ? "⚠" : STATES[facts.state] ?? "⚠"} ${well ? "well" : facts.health}`),
      h("small", { class: "muted" }, words), inner);
  }

  /** Whatever is wrong, each with the way to more. */
  function showAttention() {
    const { status } = gateway;
    if (!status) return;
    const found = [];
    for (const [name, { health }] of Object.entries(status.connections)) {
      if (health !== "ok") found.push({ level: "fail", what: name, words: health, href: `#health?open=${encodeURIComponent(name)}` });
    }
    for (const problem of status.configuration.problems) found.push({ level: "fail", what: "Configuration", words: problem, href: "#configuration" });
    for (const [name, facts] of Object.entries(status.overrides)) {
      found.push({ level: "note", what: name, words: `overridden by ${facts.by} for another ${span(facts["seconds left"])}`, href: `#data?open=${name}&search=${name}` });
    }
    for (const [key, what] of Object.entries(status.database.conflicts ?? {})) {
      found.push({ level: "bad", what: key, words: `several sources write it: ${Array.isArray(what) ? what.join(", ") : what}`, href: `#data?open=${key}&search=${key}` });
    }
    const keys = new Map(); // what is wrong -> keys
    for (const item of gateway.items.values()) {
      const reading = gateway.readings.get(item.key);
      if (!unwell(item, reading)) continue;
      const { word, level } = condition(reading);
      const by = level === "note" || item.feeders?.length > MOST_NAMED ? "" : item.feeders?.join(", ") ?? "";
      const group = `${level}\n${level === "none" ? "not fed yet" : word}\n${by}`;
      keys.set(group, [...(keys.get(group) ?? []), item.key]);
    }
    const worst = ([group]) => LEVELS.indexOf(group.split("\n")[0]);
    for (const [group, names] of [...keys].sort((a, b) => worst(a) - worst(b))) {
      const [level, words, by] = group.split("\n");
      found.push({ level, words: `${words}${by ? ` · from ${by}` : ""}`, keys: names });
    }
    const never = [...gateway.items.values()].filter((item) => silent(item, gateway.readings.get(item.key))).map((item) => item.key);
    redraw(list, [found, never], () => [
      found.length ? h("ul", { class: "attention" }, found.map(entry)) : h("p", { class: "muted" }, "Nothing."),
      never.length && h("details", { open: list.querySelector("details")?.open }, h("summary", {}, `Not sent so far by connections that are well: ${never.length} keys`),
        h("div", { class: "keys" }, never.map(keyLink)))].filter(Boolean));
  }

  const keyLink = (key) => h("a", { href: `#data?open=${key}&search=${key}` }, key);
  const entry = ({ level, what, words, href, keys }) => h("li", { "data-level": level },
    href ? h("a", { href }, h("b", {}, what), h("span", {}, words)) : h("div", {}, h("span", {}, words),
      h("div", { class: "keys" }, keys.map(keyLink))));

  on("status", show);
  every(2000, showAttention);
  gateway.subscribe({ keys: "*", rate: 4, status: true });
  if (query.has("open")) {
    const wait = gateway.on("status", () => { wait(); document.getElementById(`c-${query.get("open")}`)?.scrollIntoView({ block: "start" }); });
  }
}

/** A tree of facts as nested lists. */
export function tree(facts) {
  if (facts === null || typeof facts !== "object") return h("span", {}, facts === null ? "" : String(facts));
  const entries = Object.entries(facts);
  if (!entries.length) return h("span", { class: "muted" }, "none");
  return h("dl", { class: "tree" }, entries.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, tree(value)))));
}
