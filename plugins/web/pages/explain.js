// Where a value comes from and why it is flagged: what `fixgw explain` says, and a chart of the last minutes.

import { h, redraw, span } from "./dom.js";
import { Chart } from "./chart.js";
import { gateway, mark } from "./gateway.js";
import { zone } from "./gauge.js";
import { format, showing, written } from "./units.js";

const EVERY_MS = 1000;
const CHART_S = 300;

const FLAG_WORDS = { fail: "Failed", old: "Old", bad: "Bad", secfail: "Backup missing", annunciate: "Alert" }; // the worst first

/** `{element, close}` for a key's definition. It asks the gateway each second until it is closed. */
export function explanation(item) {
  const how = showing(item);
  const units = written(how.units);
  const value = (number) => `${format(number, how)}${units && number !== null ? ` ${units}` : ""}`;
  const reasons = h("div", { class: "reasons", role: "status" }, h("p", { class: "muted" }, "Asking the gateway …"));
  const sources = h("div", { class: "sources" });
  const facts = h("dl", { class: "facts" });
  const numeric = item.type === "float" || item.type === "int";
  const chart = numeric && new Chart({ height: 110, seconds: CHART_S, series: [{ key: item.key, item }] });
  const element = h("div", { class: "explanation", role: "row" }, h("div", { role: "cell" },
    reasons, sources, chart && chart.element, facts,
    h("p", { class: "links" }, numeric && h("a", { href: `#trends?keys=${encodeURIComponent(item.key)}` }, "Show in Trends"),
      gateway.may("bench") && h("a", { href: `#bench?key=${encodeURIComponent(item.key)}` }, "Override"))));

  function show(answer) {
    const band = numeric && answer.value !== null ? zone(answer, answer.value) : { level: "normal" };
    redraw(reasons, [answer.flags, answer.feeders, band, healthOf(answer.feeders)], () => why(answer, band, value));
    redraw(sources, answer.sources.map(({ age, difference, ...rest }) => [rest, span(age)]), () => sourceTable(answer, value));
    redraw(facts, [answer.aux, answer.ranking, answer.writes, answer.computed, span(answer.last_good)], () => details(answer, value, item));
  }

  let asking = false;
  async function ask() {
    if (asking || gateway.state !== "live") return;
    asking = true;
    try {
      show(await gateway.get(`items/${encodeURIComponent(item.key)}`));
    } catch (error) {
      redraw(reasons, error.message, () => h("p", { class: "why" }, `The gateway does not explain it: ${error.message}`));
    } finally {
      asking = false;
    }
  }
  const timer = setInterval(ask, EVERY_MS);
  ask();
  return { element, close: () => { clearInterval(timer); chart && chart.close(); } };
}

function healthOf(feeders) {
  if (!gateway.status) return []; // nobody knows yet
  return (feeders ?? []).map((name) => [name, gateway.status.connections[name]?.health ?? "not loaded"]);
}

/** The reasons in words, first what is wrong. */
function why(answer, band, value) {
  const flags = Object.keys(FLAG_WORDS).filter((flag) => flag in answer.flags).map((flag) => [flag, answer.flags[flag]]);
  const lines = flags.map(([flag, reason]) =>
    h("p", { class: `why ${flag}` }, h("b", {}, FLAG_WORDS[flag]), reason ? `: ${reason}` : ""));
  if (band.level !== "normal") {
    lines.push(h("p", { class: `why ${band.level === "alarm" ? "fail" : "bad"}` }, h("b", {}, band.word), `: beyond the limit ${band.limit} of ${value(answer.aux[band.limit])}`));
  }
  if (!flags.length) lines.push(h("p", { class: "why good" }, h("b", {}, "✓ Good"), ": no flag is set"));
  const shown = mark(answer.source ?? "");
  if (shown) lines.push(h("p", { class: "why marked" }, h("b", {}, shown), `: the value is from ${answer.source}`));
  const unusable = flags.some(([flag]) => flag === "fail" || flag === "old" || flag === "bad");
  const feeders = healthOf(answer.feeders);
  const link = (name) => h("a", { href: `#health?open=${encodeURIComponent(name)}` }, name);
  for (const [name, health] of feeders) {
    if (health !== "ok") lines.push(h("p", { class: "why fail" }, "The connection ", link(name), ` should feed it, but: ${health}`));
  }
  const well = feeders.filter(([, health]) => health === "ok").map(([name]) => name);
  if (unusable && well.length) lines.push(h("p", { class: "why" }, "Should feed it, and well: ", well.flatMap((name, n) => [n ? ", " : "", link(name)])));
  if (unusable && !answer.feeders?.length && !answer.computed?.length) {
    lines.push(h("p", { class: "why" }, "No connection of the configuration feeds it."));
  }
  if (answer.conflict_with) lines.push(h("p", { class: "why bad" }, h("b", {}, "Conflict"), `: ${answer.conflict_with} writes it too`));
  return lines;
}

function sourceTable(answer, value) {
  if (!answer.sources.length) return [];
  const ranked = answer.ranking.length > 0;
  return h("table", {}, h("thead", {}, h("tr", {}, ["Source", "Value", "Flags", "Age", ranked && "Rank"].filter(Boolean).map((t) => h("th", { scope: "col" }, t)))),
    h("tbody", {}, answer.sources.map((each) => h("tr", { class: each.published ? "published" : "" },
      h("th", { scope: "row" }, `${each.published ? "▸ " : ""}${each.source}`), h("td", {}, value(each.value)),
      h("td", {}, Object.keys(each.flags).join(", ") || "good"), h("td", {}, span(each.age)),
      ranked && h("td", {}, each.rank === null ? "not ranked" : String(each.rank + 1))))));
}

function details(answer, value, item) {
  const [low, high] = answer.range;
  const aux = Object.entries(answer.aux).filter(([, v]) => v !== null).map(([name, v]) => `${name} ${typeof v === "number" ? value(v) : v}`);
  const pairs = [
    ["Last good", answer.last_good === null ? "never" : `${span(answer.last_good)} ago`],
    ["Becomes old after", answer.tolerance ? span(answer.tolerance) : "never"],
    [low !== null && low !== undefined ? "Range" : "", low !== null ? `${value(low)} to ${value(high)}` : ""],
    [aux.length ? "Limits" : "", aux.join(", ")],
    [answer.ranking.length ? "Ranking" : "", answer.ranking.join(" › ")],
    ...answer.computed.map((each) => [`Computed by ${each.by}`, each.formula || `${each.function} of ${each.inputs.join(", ")}`]),
    ["Fed by", answer.feeders?.join(", ") || "no connection"],
    ["Writes", `${answer.writes}${answer.refused ? `, ${answer.refused} refused` : ""}${answer.conflicts ? `, ${answer.conflicts} conflicts` : ""}`],
  ];
  return pairs.filter(([name]) => name).map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd", {}, text)));
}
