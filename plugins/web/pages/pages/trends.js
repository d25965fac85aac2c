// Any keys over the last minutes, one chart for each unit.

import { h, redraw, toast } from "../dom.js";
import { Chart, history } from "../chart.js";
import { gateway } from "../gateway.js";
import { allPinned } from "../pins.js";
import { showing } from "../units.js";

const WINDOWS = [[60, "1 min"], [300, "5 min"], [900, "15 min"]];
const MOST = 12;
const SETS = {
  "EGT": /^EGT\d\d\d?$/, "CHT": /^CHT\d\d\d?$/, "Engine": /^(TACH|OILP|OILT|FUELF|MAP)1$/, "Flight": /^(IAS|ALT|VS)$/, "Electrics": /^(VOLT|CURRNT)$/,
};

export function open({ root, query, on, ending }) {
  let keys = (query.get("keys") ?? localStorage.getItem("trends") ?? "").split(",").filter(Boolean);
  let seconds = Number(query.get("seconds")) || 300;
  let charts = [];
  const place = h("div", { class: "charts" });
  const names = h("datalist", { id: "keys" });
  const field = h("input", { type: "text", list: "keys", "aria-label": "Add a key", placeholder: "Add a key, or EGT*", autocomplete: "off", autocapitalize: "characters", spellcheck: "false" });
  const chips = h("div", { class: "chips" });
  const windows = h("div", { class: "choices", role: "group", "aria-label": "Time" }, WINDOWS.map(([s, title]) =>
    h("button", { type: "button", "aria-pressed": String(s === seconds), "data-seconds": s, onclick: () => { seconds = s; draw(); } }, title)));
  const form = h("form", { class: "inline", onsubmit: (event) => { event.preventDefault(); add(field.value); field.value = ""; } }, field, h("button", { type: "submit" }, "Add"));
  const sets = h("div", { class: "choices", role: "group", "aria-label": "Sets of keys" }, Object.keys(SETS).map((name) =>
    h("button", { type: "button", onclick: () => choose([...gateway.items.keys()].filter((key) => SETS[name].test(key) && gateway.readings.get(key)?.age !== null && fed(key))) }, name)),
  h("button", { type: "button", onclick: () => choose(allPinned()) }, "Pinned"));
  root.append(h("div", { class: "tools" }, form, names, windows, sets), chips, place);

  const fed = (key) => gateway.items.get(key)?.feeders?.length;

  function add(text) {
    const pattern = new RegExp(`^${text.trim().toUpperCase().replace(/[.+^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".")}$`);
    const found = [...gateway.items.values()].filter((item) => pattern.test(item.key.toUpperCase()) && (item.type === "float" || item.type === "int")).map((item) => item.key);
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
    for (const chart of charts) chart.close();
    for (const button of windows.children) button.setAttribute("aria-pressed", String(Number(button.dataset.seconds) === seconds));
    redraw(chips, keys, () => keys.map((key) => h("button", { type: "button", class: "chip", "aria-label": `Remove ${key}`, onclick: () => choose(keys.filter((each) => each !== key)) }, `${key} ✕`)));
    const items = keys.map((key) => gateway.items.get(key)).filter(Boolean);
    const groups = new Map();
    for (const item of items) groups.set(showing(item).units, [...(groups.get(showing(item).units) ?? []), item]);
    charts = [...groups.values()].map((group) => new Chart({ height: groups.size > 2 ? 170 : 240, seconds, series: group.map((item) => ({ key: item.key, item })) }));
    place.replaceChildren(...(charts.length ? charts.map((chart) => h("section", { class: "card" }, chart.element))
      : [h("p", { class: "muted empty" }, "Choose a set, or add a key. Stretches that were old, bad or failed are gaps.")]));
    gateway.subscribe({ keys, rate: 4 });
    if (items.length) history(keys, seconds).then((points) => charts.forEach((chart) => chart.fill(points)), (error) => toast(error.message, "error"));
  }

  on("items", () => {
    names.replaceChildren(...[...gateway.items.values()].filter((item) => item.type === "float" || item.type === "int")
      .map((item) => h("option", { value: item.key }, item.description)));
    draw();
  });
  on("values", (dirty) => {
    for (const key of dirty) {
      const reading = gateway.readings.get(key);
      for (const chart of charts) chart.add(key, reading);
    }
  });
  ending(() => charts.forEach((chart) => chart.close()));
  if (gateway.items.size) {
    names.replaceChildren(...[...gateway.items.values()].map((item) => h("option", { value: item.key }, item.description)));
    draw();
  }
}
