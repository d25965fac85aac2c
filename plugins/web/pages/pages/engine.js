// Engines: dials, cylinders as bars, electrics and fuel; each from its item's own limits.

import { h, redraw, say } from "../dom.js";
import { gateway } from "../gateway.js";
import { Bar, Dial } from "../gauge.js";
import { format, showing } from "../units.js";

const DIALS = [
  ["TACH", "RPM"], ["MAP", "Manifold"], ["OILP", "Oil pressure"], ["OILT", "Oil temp"], ["FUELF", "Fuel flow"],
  ["FUELP", "Fuel pressure"], ["H2OT", "Coolant"], ["PROP", "Propeller"],
];
const SHARED = [["VOLT", "Volts"], ["CURRNT", "Amps"], ["FUELQT", "Fuel total"]];
const ENGINE = new RegExp(`^(${DIALS.map(([prefix]) => prefix).join("|")})(\\d)$`);
const CYLINDER = /^(EGT|CHT)(\d)(\d{1,2})$/;
const TANK = /^FUELQ(\d)$/;
const PEAKED = 5; // degrees below its highest, at which a cylinder counts as past its peak

export function open({ root, query, on, every }) {
  const only = query.get("keys")?.split(",");
  const content = h("div", { class: "engines" });
  let gauges = [];
  let leaning = null; // key -> {peak, order}
  let built = "";
  const lean = h("button", { type: "button", "aria-pressed": "false", onclick: () => {
    leaning = leaning ? null : new Map();
    lean.setAttribute("aria-pressed", String(Boolean(leaning)));
    say(advice, leaning ? "Lean slowly. Each cylinder shows how far it is below its peak; the first to peak is marked." : "");
    draw();
  } }, "Lean assist");
  const advice = h("p", { class: "muted", role: "status" });
  root.append(content, h("div", { class: "tools" }, lean, advice));

  const written = (key) => gateway.readings.get(key)?.age != null;

  /**
   * Whether to show a key: it has or had a value, or a connection may feed it. But drivers may feed more cylinders and
   * engines than there are, so those beyond the last one that has a value are left out.
   */
  function fed(key) {
    if (!gateway.items.has(key)) return false;
    if (written(key) || only) return true;
    if (!gateway.items.get(key).feeders?.length) return false;
    const [, prefix, engine, cylinder] = key.match(CYLINDER) ?? [];
    if (cylinder) return [...gateway.items.keys()].some((each) => each.startsWith(prefix + engine) && each.match(CYLINDER)?.[3] >= cylinder && written(each));
    return (key.match(ENGINE)?.[2] ?? "1") === "1" || written(`TACH${key.match(ENGINE)[2]}`);
  }

  function build() {
    const keys = [...gateway.items.keys()].filter((key) => (!only || only.includes(key)) && fed(key)
      && (only || ENGINE.test(key) || CYLINDER.test(key) || TANK.test(key) || SHARED.some(([k]) => k === key)));
    if (keys.join() === built && gauges.length) return;
    built = keys.join();
    gauges = [];
    const add = (Kind, key, name) => {
      const gauge = new Kind(gateway.items.get(key), name);
      gauges.push(gauge);
      return gauge.element;
    };
    const has = (key) => keys.includes(key);
    const numbers = [...new Set(keys.map((key) => key.match(ENGINE)?.[2] ?? key.match(CYLINDER)?.[2]).filter(Boolean))].sort();
    const sections = numbers.map((e) => {
      const dials = DIALS.filter(([prefix]) => has(prefix + e)).map(([prefix, name]) => add(Dial, prefix + e, name));
      const bars = ["EGT", "CHT"].map((prefix) => {
        const cylinders = keys.filter((key) => key.match(CYLINDER)?.[1] === prefix && key.match(CYLINDER)[2] === e);
        if (!cylinders.length) return null;
        const { units } = showing(gateway.items.get(cylinders[0]));
        return h("section", { class: "card cylinders" }, h("h3", {}, `${prefix} ${units === "degF" ? "°F" : units === "degC" ? "°C" : units}`),
          h("div", { class: "bars" }, cylinders.map((key) => add(Bar, key, key.match(CYLINDER)[3]))));
      });
      return h("section", { "aria-label": `Engine ${e}` }, numbers.length > 1 && h("h2", {}, `Engine ${e}`),
        h("div", { class: "dials" }, dials), h("div", { class: "pair" }, bars));
    });
    const shared = [...SHARED.filter(([key]) => has(key)).map(([key, name]) => add(Dial, key, name)),
      ...keys.filter((key) => TANK.test(key)).map((key) => add(Dial, key, `Tank ${key.match(TANK)[1]}`))];
    const placed = new Set(gauges.map((gauge) => gauge.item.key));
    const others = keys.filter((key) => !placed.has(key)).map((key) => add(Dial, key, key));
    if (numbers.length === 1) sections[0].firstChild.append(...shared);
    else if (shared.length) sections.push(h("section", { "aria-label": "Electrics and fuel" }, h("div", { class: "dials" }, shared)));
    if (others.length) sections.push(h("section", {}, h("div", { class: "dials" }, others)));
    content.replaceChildren(...sections);
    lean.hidden = !keys.some((key) => key.startsWith("EGT"));
    redraw(advice, built, () => (gauges.length ? [] : [document.createTextNode("No key of an engine is fed.")]));
  }

  function draw() {
    const hottest = new Map();
    for (const gauge of gauges) {
      const value = gauge.draw();
      const group = gauge.item.key.match(CYLINDER)?.slice(1, 3).join("");
      if (!group) continue;
      if (value !== null && value > (hottest.get(group)?.value ?? -Infinity)) hottest.set(group, { value, gauge });
      if (group.startsWith("EGT")) follow(gauge, value);
    }
    for (const gauge of gauges) {
      const group = gauge.item.key.match(CYLINDER)?.slice(1, 3).join("");
      if (group) say(gauge.hottest, hottest.get(group)?.gauge === gauge ? "hottest" : "");
    }
  }

  /** How far a cylinder is below its own peak since the assist was switched on. */
  function follow(gauge, value) {
    if (!leaning) {
      if (gauge.note) gauge.note.remove();
      gauge.note = null;
      return;
    }
    gauge.note ??= gauge.element.appendChild(h("span", { class: "lean" }));
    const found = leaning.get(gauge.item.key) ?? { peak: -Infinity, order: 0 };
    leaning.set(gauge.item.key, found);
    if (value === null) return say(gauge.note, "—");
    if (value > found.peak) found.peak = value;
    const below = found.peak - value;
    if (below >= PEAKED && !found.order) found.order = Math.max(0, ...[...leaning.values()].map((each) => each.order)) + 1;
    const how = { ...gauge.how, summand: 0, decimals: 0 };
    say(gauge.note, found.order ? `${found.order === 1 ? "1st " : ""}−${format(below, how)}` : "rising");
  }

  on("items", () => { built = ""; gauges = []; build(); });
  on("values", () => {
    if (!gauges.length) build();
    draw();
  });
  every(1000, () => { build(); draw(); });
  const wanted = ["TACH?", "PROP?", "MAP?", "OILP?", "OILT?", "FUELF?", "FUELP?", "H2OT?", "EGT??", "EGT???", "CHT??", "CHT???", "FUELQ?", "VOLT", "CURRNT"];
  gateway.subscribe({ keys: only ?? wanted, rate: Number(query.get("rate")) || 10 });
}
