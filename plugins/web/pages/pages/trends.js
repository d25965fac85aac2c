// Any keys over the last minutes, or over a stretch of a recording, one chart for each unit.

import { h, redraw, say, toast } from "../dom.js";
import { Chart, moment } from "../chart.js";
import { gateway } from "../gateway.js";
import { allPinned } from "../pins.js";
import { showing } from "../units.js";

const WINDOWS = [[60, "1 min"], [300, "5 min"], [900, "15 min"]];
const MOST = 12;
const SHORTEST_S = 1; // stretch of a recording
const SETS = {
  "EGT": /^EGT\d\d\d?$/, "CHT": /^CHT\d\d\d?$/, "Engine": /^(TACH|OILP|OILT|FUELF|MAP)1$/, "Flight": /^(IAS|ALT|VS)$/, "Electrics": /^(VOLT|CURRNT)$/,
};

const isNumber = (item) => item.type === "float" || item.type === "int";

export function open({ root, query, on, ending, go }) {
  const recording = query.get("recording");
  let keys = (query.get("keys") ?? localStorage.getItem("trends") ?? "").split(",").filter(Boolean);
  let charts = [];
  const place = h("div", { class: "charts" });
  const names = h("datalist", { id: "keys" });
  const field = h("input", { type: "text", list: "keys", "aria-label": "Add a key", placeholder: "Add a key, or EGT*", autocomplete: "off", autocapitalize: "characters", spellcheck: "false" });
  const chips = h("div", { class: "chips" });
  const form = h("form", { class: "inline", onsubmit: (event) => { event.preventDefault(); add(field.value); field.value = ""; } }, field, h("button", { type: "submit" }, "Add"));
  const sets = h("div", { class: "choices", role: "group", "aria-label": "Sets of keys" }, Object.keys(SETS).map((name) =>
    h("button", { type: "button", onclick: () => choose(shown.usual().filter((key) => SETS[name].test(key))) }, name)),
  h("button", { type: "button", onclick: () => choose(allPinned()) }, "Pinned"));
  const frame = { query, go, place, wanted: () => keys, show, suggest };
  const shown = recording === null ? live(frame) : recorded(recording, frame);
  root.append(...[shown.banner].filter(Boolean), h("div", { class: "tools" }, form, names, shown.tools, sets), chips, place);

  function add(text) {
    const pattern = new RegExp(`^${text.trim().toUpperCase().replace(/[.+^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".")}$`);
    const found = shown.known().filter((key) => pattern.test(key.toUpperCase()));
    if (!found.length) toast(`There is no number called ${text}`, "error");
    choose([...keys, ...found]);
  }

  function choose(wanted) {
    keys = [...new Set(wanted)].slice(0, MOST);
    if (!query.has("keys")) localStorage.setItem("trends", keys.join());
    if (new Set(wanted).size > MOST) toast(`At most ${MOST} keys at a time`);
    draw();
  }

  function draw() {
    redraw(chips, keys, () => keys.map((key) => h("button", { type: "button", class: "chip", "aria-label": `Remove ${key}`, onclick: () => choose(keys.filter((each) => each !== key)) }, `${key} ✕`)));
    shown.draw();
  }

  /** Draw the charts of `series`, as `Chart` wants them, one for each unit. */
  function show(series, options) {
    for (const chart of charts) chart.close();
    const groups = new Map();
    for (const each of series) groups.set(showing(each.item).units, [...(groups.get(showing(each.item).units) ?? []), each]);
    charts = [...groups.values()].map((group) => new Chart({ height: groups.size > 2 ? 170 : 240, series: group, ...options }));
    place.replaceChildren(...(charts.length ? charts.map((chart) => h("section", { class: "card" }, chart.element))
      : [h("p", { class: "muted empty" }, "Choose a set, or add a key. Stretches that were old, bad or failed are gaps.")]));
  }

  function suggest() {
    names.replaceChildren(...shown.known().map((key) => h("option", { value: key }, gateway.items.get(key)?.description ?? "")));
  }

  on("items", () => { suggest(); draw(); });
  ending(() => { charts.forEach((chart) => chart.close()); shown.close?.(); });
  if (gateway.items.size) { suggest(); draw(); }
}

/** The last minutes, from the gateway's memory, and what comes. */
function live({ query, go, wanted, show }) {
  let seconds = Number(query.get("seconds")) || 300;
  const windows = h("div", { class: "choices", role: "group", "aria-label": "Time" }, WINDOWS.map(([s, title]) =>
    h("button", { type: "button", "data-seconds": s, onclick: () => { seconds = s; draw(); } }, title)));
  const open = h("button", { type: "button", onclick: () => offer().catch((error) => { open.disabled = false; toast(error.message, "error"); }) }, "A recording …");
  const tools = h("div", { class: "inline" }, windows, open);
  const fed = (key) => gateway.items.get(key)?.feeders?.length;

  async function offer() {
    open.disabled = true; // the list takes a second
    const list = (await gateway.get("recordings")).recordings.filter((each) => !each.trouble).reverse();
    open.disabled = false;
    if (!list.length) return toast("There are no recordings");
    const choice = h("select", { "aria-label": "A recording", onchange: () => {
      const address = new URLSearchParams(query);
      address.set("recording", choice.value);
      go(`trends?${address}`);
    } }, h("option", { value: "", disabled: true, selected: true }, "Choose a recording"),
    list.map((each) => h("option", { value: each.name }, each.name + (each.simulated ? ", SIMULATED" : "") + (each.being_written ? ", being written" : ""))));
    open.replaceWith(choice);
    choice.focus();
  }

  function draw() {
    for (const button of windows.children) button.setAttribute("aria-pressed", String(Number(button.dataset.seconds) === seconds));
    const keys = wanted();
    const items = keys.map((key) => gateway.items.get(key)).filter(Boolean);
    show(items.map((item) => ({ key: item.key, item })), { seconds });
    gateway.subscribe({ keys, rate: 4 });
  }

  return {
    tools, draw,
    known: () => [...gateway.items.values()].filter(isNumber).map((item) => item.key),
    usual: () => [...gateway.items.keys()].filter((key) => gateway.readings.get(key)?.age !== null && fed(key)),
  };
}

/** A stretch of the recording `name`. Nothing of it is current, and it says so. */
function recorded(name, { query, go, place, wanted, show, suggest }) {
  let stretch = { from: 0, until: Infinity };
  let known = [];
  let length = Infinity;
  let asking = false, again = false, closed = false;
  let last = {}; // the address that was asked for, and its answer
  const banner = h("section", { class: "card recording", "aria-label": "Recording" }, h("strong", {}, `RECORDING ${name}`), h("p", { role: "status" }, "Reading …"));
  const button = (title, action) => h("button", { type: "button", onclick: action }, title);
  const move = (part) => zoom(stretch.from + part * span(), until() + part * span());
  const scale = (part) => zoom(stretch.from + span() * (0.5 - part / 2), until() - span() * (0.5 - part / 2));
  const tools = h("div", { class: "choices", role: "group", "aria-label": "Stretch" },
    button("Zoom in", () => scale(0.5)), button("Zoom out", () => scale(2)), button("Earlier", () => move(-0.5)), button("Later", () => move(0.5)),
    button("Whole", () => zoom(0, Infinity)), button("Back to live", () => {
      const address = new URLSearchParams(query);
      address.delete("recording");
      go(`trends?${address}`);
    }));
  const until = () => Math.min(stretch.until, length);
  const span = () => until() - stretch.from;

  /** Show the stretch from `from` to `end`, as far as there is one: as long as that at the edges, too. */
  function zoom(from, end) {
    if (length === Infinity) return draw(); // nothing has come so far
    const wide = Math.min(Math.max(end - from, SHORTEST_S), length);
    const first = Math.max(0, Math.min(from, length - wide));
    last = {}; // what is being written grows
    stretch = wide >= length ? { from: 0, until: Infinity } : { from: first, until: first + wide };
    draw();
  }

  /** Ask for one stretch after the other: only the latest that is wanted. */
  async function draw() {
    again = true;
    if (asking) return;
    asking = true;
    place.setAttribute("aria-busy", "true");
    say(banner.lastChild, "Reading …");
    try {
      while (again && !closed) {
        again = false;
        const end = stretch.until === Infinity ? "" : `&until=${stretch.until}`;
        const address = `recordings/${encodeURIComponent(name)}/series?keys=${wanted().map(encodeURIComponent).join(",")}&from=${stretch.from}${end}`;
        if (address !== last.address) last = { address, answer: await gateway.get(address) };
        if (!again && !closed) present(last.answer);
      }
    } catch (error) {
      if (!closed) {
        show([]);
        place.replaceChildren(h("p", { class: "why fail" }, error.message));
        say(banner.lastChild, "It cannot be shown.");
      }
    } finally {
      asking = false;
      place.removeAttribute("aria-busy");
      if (again && !closed) draw();
    }
  }

  function present(answer) {
    length = Math.max(answer.length, SHORTEST_S);
    if (answer.recorded.length > known.length) { known = answer.recorded; suggest(); }
    const start = answer.start !== null && Math.abs(answer.start) < 8e12 ? answer.start : null; // beyond all dates
    const date = start === null ? "without a date" : `of ${new Date(start * 1000).toISOString().slice(0, 10)}`;
    const past = { from: answer.from, until: answer.until, step: answer.step, start, zoom };
    const lacking = Object.keys(answer.keys).filter((key) => !answer.keys[key]);
    banner.replaceChildren(h("div", {}, h("strong", {}, `RECORDING ${date}`), " ", answer.simulated && h("span", { class: "mark" }, "SIMULATED"), " Nothing on these charts is current. ",
      h("span", { class: "muted" }, `${answer.name}. Drag over a chart, or press + and − on it, for a shorter stretch; each point shows the least and the greatest of ${answer.step < 1 ? answer.step.toPrecision(2) : Math.round(answer.step)} s.`)),
      ...answer.notes.map((words) => h("p", { class: "why old" }, words)), lacking.length ? h("p", { class: "why" }, `Not recorded: ${lacking.join(", ")}`) : "",
      h("p", { role: "status" }, `${moment(past, past.from)} to ${moment(past, past.until)}${start === null ? "" : " UTC"}`));
    show(wanted().filter((key) => answer.keys[key]).map((key) => {
      const found = answer.keys[key], item = gateway.items.get(key);
      return { key, found, item: { key, units: found.units, decimals: item?.units === found.units ? item.decimals : undefined } };
    }), { past });
  }

  return { banner, tools, draw, known: () => known, usual: () => known, close: () => { closed = true; } };
}
