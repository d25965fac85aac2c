// For the test bench: values of one's own for a while, shown to everybody and marked everywhere.

import { card, h, redraw, say, span, toast } from "../dom.js";
import { gateway } from "../gateway.js";
import { entered, format, showing, written } from "../units.js";

const TIMES = [[60, "1 min"], [300, "5 min"], [900, "15 min"], [3600, "1 hour"]];
const FLAGS = ["annunciate", "bad", "fail", "secfail"];

export function open({ root, query, on, every }) {
  const list = h("div", {});
  const all = h("button", { type: "button", class: "danger", onclick: () => act("DELETE", "overrides", "All overrides are released") }, "Release all");
  const names = h("datalist", { id: "keys" });
  const key = h("input", { type: "text", list: "keys", required: true, autocomplete: "off", autocapitalize: "characters", spellcheck: "false", value: query.get("key") ?? "", oninput: describe });
  const value = h("input", { type: "text", required: true, autocomplete: "off", inputmode: "text" });
  const about = h("p", { class: "muted" });
  const units = h("span", {});
  const time = h("select", {}, TIMES.map(([seconds, title]) => h("option", { value: seconds, selected: seconds === 300 }, title)));
  const flags = FLAGS.map((name) => h("input", { type: "checkbox", value: name }));
  const submit = h("button", { type: "submit", class: "primary" }, "Override");
  const form = h("form", { onsubmit: (event) => { event.preventDefault(); override(); } },
    h("div", { class: "fields" }, h("label", { class: "field" }, "Key", key), h("label", { class: "field" }, h("span", {}, "Value ", units), value), h("label", { class: "field" }, "For", time)),
    about, h("div", { class: "inline" }, flags.map((box) => h("label", { class: "check" }, box, box.value)), submit));
  const refused = h("p", { class: "why", hidden: true }, "This browser may not override values. Set the option bench of the connection, and the role.");
  const scenarios = h("div", {});
  const panel = h("div", {});
  root.append(refused, card("Overridden now", list, all), card("Override a value", form), scenarios, panel);

  function describe() {
    const item = gateway.items.get(key.value.trim());
    const how = item && showing(item);
    say(units, how ? written(how.units) : "");
    const reading = item && gateway.readings.get(item.key);
    say(about, item ? `${item.description}${reading && reading.value !== null ? `: ${format(reading.value, how)} now` : ""}` : "");
  }

  function given(item) {
    if (item.type === "str") return value.value;
    if (item.type === "bool") return /^(1|true|yes|on)$/i.test(value.value);
    const number = entered(Number(value.value), showing(item));
    return item.type === "int" ? Math.round(number) : number;
  }

  function override() {
    const item = gateway.items.get(key.value.trim());
    if (!item) return toast(`There is no key ${key.value}`, "error");
    act("PUT", `overrides/${encodeURIComponent(item.key)}`, `${item.key} is overridden`,
      { value: given(item), flags: flags.filter((box) => box.checked).map((box) => box.value), seconds: Number(time.value) });
  }

  async function act(method, path, done, body = {}) {
    try {
      show(await gateway.act(method, path, body));
      toast(done);
    } catch (error) {
      toast(error.message, "error");
    }
  }

  function show({ overrides }) {
    const entries = Object.entries(overrides);
    all.disabled = !entries.length || !gateway.may("bench");
    redraw(list, [entries.map(([name, each]) => [name, { ...each, seconds: span(each.seconds) }]), gateway.may("bench")], () => entries.length
      ? h("ul", { class: "plain" }, entries.map(([name, each]) => h("li", { class: "override" }, h("a", { href: `#data?open=${name}&search=${name}` }, h("b", {}, name)),
        h("span", {}, `${format(each.value, gateway.items.has(name) ? showing(gateway.items.get(name)) : {})} ${each.flags.join(", ")}`),
        h("small", { class: "muted" }, `${span(each.seconds)} left, by ${each.source.replace("override/", "")}`),
        gateway.may("bench") && h("button", { type: "button", onclick: () => act("DELETE", `overrides/${encodeURIComponent(name)}`, `${name} is released`) }, "Release"))))
      : h("p", { class: "muted" }, "Nothing. What everybody sees is what the sources say."));
  }

  function permit() {
    refused.hidden = gateway.may("bench");
    submit.disabled = !gateway.may("bench");
  }

  async function command(words) {
    try {
      showPanel((await gateway.act("POST", "panel", { command: words })).panel);
    } catch (error) {
      toast(error.message, "error");
    }
  }

  /** The knobs, buttons and lamps of the virtual panel. */
  function showPanel(state) {
    const parts = state?.panel;
    if (!parts) return redraw(panel, null, () => []);
    const lit = (pin) => Boolean(state.pins[pin]?.level);
    return redraw(panel, state, () => card("Virtual panel",
      h("div", { class: "lamps" }, Object.entries(parts.lamps).map(([name, pin]) => h("span", { class: `lamp ${lit(pin) ? "lit" : ""}` }, `${lit(pin) ? "●" : "○"} ${name}`))),
      h("div", { class: "panel" },
        parts.knobs.map((knob, n) => h("span", { class: "knob", role: "group", "aria-label": `Knob ${n + 1}` }, h("b", {}, `Knob ${n + 1}`),
          h("button", { type: "button", "aria-label": "Turn back", onclick: () => command(`turn ${n} -1`) }, "↺"), h("span", { class: "value" }, String(knob.position)),
          h("button", { type: "button", "aria-label": "Turn on", onclick: () => command(`turn ${n} 1`) }, "↻"),
          h("button", { type: "button", onclick: () => command(`press ${parts.buttons.length + n} 0.2`) }, "Push"))),
        parts.buttons.map((pin, n) => h("button", { type: "button", onclick: () => command(`press ${n} 0.2`) }, `Button ${n + 1}`)),
        parts.switches.map((pin, n) => h("button", { type: "button", "aria-pressed": String(!lit(pin)), onclick: () => command(`switch ${n} ${lit(pin) ? 1 : 0}`) }, `Switch ${n + 1}`)))));
  }

  function showBench({ scenarios: names, playing, panel: state }) {
    showPanel(state);
    const play = async (name) => {
      await gateway.act("POST", "scenario", { name });
      toast(name ? `${name} begins` : "The scenario has ended");
    };
    redraw(scenarios, [names, playing], () => Object.keys(names).length ? card("Scenarios of the virtual aircraft",
      h("ul", { class: "plain" }, Object.entries(names).map(([name, words]) => h("li", { class: "scenario" }, h("span", {}, h("b", {}, name), h("br"), h("small", { class: "muted" }, words)),
        playing === name ? h("button", { type: "button", class: "danger", onclick: () => play(null) }, "Stop") : h("button", { type: "button", onclick: () => play(name) }, "Start")))),
      playing === "" && h("button", { type: "button", onclick: () => play(null) }, "Stop the scenario of the demo")) : []);
  }

  on("hello", permit);
  on("items", () => { names.replaceChildren(...[...gateway.items.values()].map((item) => h("option", { value: item.key }, item.description))); describe(); });
  every(1000, async () => {
    describe();
    if (gateway.state !== "live") return;
    permit();
    show(await gateway.get("overrides"));
    if (gateway.may("bench")) showBench(await gateway.get("bench"));
  });
  names.replaceChildren(...[...gateway.items.values()].map((item) => h("option", { value: item.key }, item.description)));
  gateway.subscribe({ keys: "*", rate: 2 });
}
