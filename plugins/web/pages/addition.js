// A form for a new connection, made from what the gateway says of its modules.

import { h, say } from "./dom.js";
import { gateway } from "./gateway.js";

const COMMON = ["port", "host", "baud", "interface", "channel"]; // shown before the rest, with what is required

/** A form; `done` gets the lines of YAML, without indentation. */
export async function moduleForm(done) {
  const modules = await gateway.get("config/modules");
  const about = h("p", { class: "muted" });
  const fields = h("div", { class: "fields" });
  const rest = h("div", { class: "fields" });
  const more = h("details", {}, h("summary", {}, "All options"), rest);
  const name = h("input", { type: "text", required: true, pattern: "[A-Za-z][A-Za-z0-9_\\-]*", title: "letters, digits, - and _" });
  const which = h("select", { onchange: choose }, modules.map((each) => h("option", { value: each.module }, each.name)));
  let inputs = new Map();

  function choose() {
    const found = modules.find((each) => each.module === which.value);
    say(about, found.summary ?? "");
    name.value = found.name;
    inputs = new Map();
    const made = (found.options ?? []).filter((option) => !option.name.includes(".")).map((option) => {
      const required = option.default === "required";
      const input = /^yes\/no$/.test(option.type)
        ? h("select", {}, ["", "yes", "no"].map((value) => h("option", { value }, value || `default: ${option.default}`)))
        : h("input", { type: "text", required, placeholder: required ? option.type : option.default, autocomplete: "off", spellcheck: "false" });
      inputs.set(option.name, { input, option });
      return { first: required || COMMON.includes(option.name), element: h("label", { class: "field", title: option.description }, h("span", {}, `${option.name}${required ? " *" : ""}`), input, h("small", {}, plain(option.description))) };
    });
    fields.replaceChildren(...made.filter((each) => each.first).map((each) => each.element));
    rest.replaceChildren(...made.filter((each) => !each.first).map((each) => each.element));
    more.hidden = !rest.children.length;
  }

  choose();
  return h("form", { class: "card", onsubmit: (event) => {
    event.preventDefault();
    const given = [...inputs.values()].filter(({ input }) => input.value.trim());
    done([`${name.value}:`, "  load: yes", `  module: ${which.value}`, ...given.map(({ input, option }) => `  ${option.name}: ${scalar(input.value.trim(), option.type)}`)]);
  } }, h("h3", {}, "Add a connection"), h("div", { class: "fields" }, h("label", { class: "field" }, "Module", which), h("label", { class: "field" }, "Name", name)),
  about, fields, more, h("button", { type: "submit", class: "primary" }, "Insert into the file"));
}

const plain = (text) => text.replaceAll("`", "");

/** A value as YAML: text is quoted, what is neither text nor a number is taken as it is. */
function scalar(value, type) {
  return /^text/.test(type) ? JSON.stringify(value) : value;
}
