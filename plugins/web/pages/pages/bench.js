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
  root.append(refused, card("Overridden now", list, all), card("Override a value", form));

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

  on("hello", permit);
  on("items", () => { names.replaceChildren(...[...gateway.items.values()].map((item) => h("option", { value: item.key }, item.description))); describe(); });
  every(1000, async () => {
    describe();
    if (gateway.state !== "live") return;
    permit();
    show(await gateway.get("overrides"));
  });
  names.replaceChildren(...[...gateway.items.values()].map((item) => h("option", { value: item.key }, item.description)));
  gateway.subscribe({ keys: "*", rate: 2 });
}
