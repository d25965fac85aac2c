// The code that `fixgw web pair` has printed, in exchange for a cookie.

import { h, say } from "../dom.js";
import { gateway } from "../gateway.js";

export function open({ root, query, go }) {
  const code = h("input", { type: "text", name: "code", required: true, autocomplete: "one-time-code", autocapitalize: "characters", spellcheck: "false", maxlength: "9",
    placeholder: "ABCD-2345", "aria-label": "Code", class: "code", value: query.get("code") ?? "" });
  const answer = h("p", { role: "alert", class: "why" });
  root.append(h("section", { class: "card narrow" },
    h("p", {}, "This browser is not paired with the gateway. On the gateway, type"), h("pre", {}, "fixgw web pair"),
    h("p", {}, "and enter the code that it prints. A code is good for five minutes, and once."),
    h("form", { class: "inline", onsubmit: async (event) => {
      event.preventDefault();
      try {
        const { name, role } = await gateway.ask("POST", "pair", { code: code.value });
        say(answer, `Paired as ${name}, with the role ${role}.`);
        gateway.reconnect();
        go("#health");
      } catch (error) {
        say(answer, error.message);
        code.select();
      }
    } }, code, h("button", { type: "submit", class: "primary" }, "Pair"))), answer);
  if (query.has("code")) history.replaceState(null, "", "#pair"); // it is good once: nobody needs it in the history
  code.focus();
}
