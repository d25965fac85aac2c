// What this browser's user prefers. Nothing of it reaches the gateway.

import { card, h, say } from "../dom.js";
import { gateway } from "../gateway.js";
import { audible, setAudible } from "../sound.js";
import * as theme from "../theme.js";
import { choice, choose, chooseSystem, quantities, systems, written } from "../units.js";

export function open({ root, on }) {
  const units = h("div", {});
  const about = h("p", { class: "muted" });
  root.append(
    card("Colours", h("div", { class: "choices", role: "group", "aria-label": "Colours" }, [["auto", "Automatic"], ["day", "Day"], ["dark", "Dark"], ["night", "Night"]].map(([name, title]) =>
      h("button", { type: "button", "aria-pressed": String(theme.chosen() === name), onclick: (event) => {
        theme.choose(name);
        for (const each of event.target.parentNode.children) each.setAttribute("aria-pressed", String(each === event.target));
      } }, title))),
    h("label", { class: "field" }, "Brightness at night", h("input", { type: "range", min: 20, max: 100, value: theme.brightness(), oninput: (event) => theme.dim(event.target.value) }))),
    card("Units", units, h("p", { class: "muted" }, "They change what this browser shows. The gateway keeps its own.")),
    card("Alarms", h("button", { type: "button", "aria-pressed": String(audible()), onclick: (event) => {
      setAudible(!audible());
      event.target.setAttribute("aria-pressed", String(audible()));
    } }, "Sound")),
    card("This browser", about, h("a", { class: "button", href: "#pair" }, "Pair with a code")));

  function draw() {
    say(about, gateway.hello ? `Gateway ${gateway.hello.version}. This browser may: ${gateway.hello.permissions.join(", ") || "nothing"}.` : "No link to the gateway.");
    units.replaceChildren(
      h("div", { class: "choices", role: "group", "aria-label": "Systems of units" }, [["", "As the gateway"], ...Object.keys(systems()).map((name) => [name, { us: "US" }[name] ?? name])].map(([name, title]) =>
        h("button", { type: "button", onclick: () => { chooseSystem(name); draw(); } }, title))),
      h("div", { class: "fields" }, Object.entries(quantities()).map(([quantity, names]) => h("label", { class: "field" }, quantity,
        h("select", { onchange: (event) => choose(quantity, event.target.value) }, h("option", { value: "" }, "as the gateway"),
          names.map((name) => h("option", { value: name, selected: choice(quantity) === name }, written(name) || name)))))));
  }
  on("items", draw);
  on("hello", draw);
  draw();
}
