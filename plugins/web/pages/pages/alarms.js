// What needs the crew's attention, the most important first.

import { card, h, redraw, say, span, toast } from "../dom.js";
import { gateway, wantsAttention } from "../gateway.js";
import { audible, setAudible, silent } from "../sound.js";

const SIGNS = { warning: "▲!", caution: "▲", advisory: "●" };
const ORDER = ["warning", "caution", "advisory"];

export function open({ root, on, every }) {
  const list = h("ul", { class: "alarms", role: "alert" });
  const shelved = h("div", {});
  const log = h("div", {});
  const phase = h("span", { class: "muted" });
  const sounds = h("button", { type: "button", "aria-pressed": String(audible()), onclick: () => {
    setAudible(!audible());
    sounds.setAttribute("aria-pressed", String(audible()));
  } }, "Sound");
  const hint = h("span", { class: "muted" });
  const all = h("button", { type: "button", class: "primary", onclick: () => tell("ack all") }, "Acknowledge all");
  root.append(h("div", { class: "tools" }, all, h("button", { type: "button", onclick: () => tell("mute") }, "Mute for a minute"), sounds, hint, phase),
    list, shelved, card("Latest changes", log));

  async function tell(command) {
    try {
      await gateway.act("POST", "alarms", { command });
    } catch (error) {
      toast(error.message, "error");
    }
  }

  /** `alarms` is null while nobody knows. */
  function show(alarms) {
    if (!alarms) {
      all.disabled = true;
      redraw(shelved, null, () => []);
      return redraw(list, null, () => h("li", {}, "? The gateway has not said yet"));
    }
    const shown = alarms.filter((alarm) => alarm.state !== "shelved")
      .sort((a, b) => wantsAttention(b) - wantsAttention(a) || ORDER.indexOf(a.level) - ORDER.indexOf(b.level));
    const rest = alarms.filter((alarm) => alarm.state === "shelved");
    const may = gateway.may("write");
    all.disabled = !may || !shown.some(wantsAttention);
    redraw(list, [shown.map(({ for: _, ...facts }) => facts), may], () => shown.length ? shown.map((alarm) =>
      h("li", { "data-level": alarm.level, "data-state": alarm.state },
        h("span", { class: "sign", "aria-hidden": "true" }, SIGNS[alarm.level]),
        h("span", { class: "what" }, h("b", {}, alarm.text),
          h("small", {}, `${alarm.level}, ${alarm.state}${alarm.intermittent ? ", intermittent" : ""} · ${alarm.id}`)),
        may && wantsAttention(alarm) && h("button", { type: "button", onclick: () => tell(`ack ${alarm.id}`) }, "Acknowledge"),
        may && h("button", { type: "button", title: "Out of sight for ten minutes", onclick: () => tell(`shelve ${alarm.id} 600`) }, "Shelve 10 min")))
      : h("li", { class: "none" }, "✓ No alarms"));
    return redraw(shelved, rest.map((alarm) => alarm.id), () => rest.length ? card("Shelved", h("ul", { class: "plain" }, rest.map((alarm) =>
      h("li", {}, `${alarm.text} (${alarm.level})`, may && h("button", { type: "button", onclick: () => tell(`shelve ${alarm.id} 0`) }, "Take back"))))) : []);
  }

  function showStatus(status) {
    const judges = Object.values(status.connections).filter((each) => each.status?.["flight phase"] !== undefined);
    say(phase, judges.length ? `Flight phase: ${judges[0].status["flight phase"]}${judges[0].status["muted for"] ? `, muted for ${span(judges[0].status["muted for"])}` : ""}` : "No connection judges alerts: see the module alerts.");
    const entries = judges.flatMap((each) => each.status["alert log"] ?? []).slice(-100).reverse();
    redraw(log, entries, () => entries.length ? h("table", {}, h("thead", {}, h("tr", {}, ["Time (UTC)", "Alert", "Change", "Value"].map((t) => h("th", { scope: "col" }, t)))),
      h("tbody", {}, entries.map((each) => h("tr", {}, h("td", { class: "when" }, each.time.slice(11, 19)), h("td", {}, each.text),
        h("td", {}, `${each.from} → ${each.to}`), h("td", {}, each.value === undefined ? "" : `${each.value}${each.limit === undefined ? "" : ` (limit ${each.limit})`}`)))))
      : h("p", { class: "muted" }, "None."));
  }

  on("alarms", show);
  on("hello", () => show(gateway.alarms));
  on("status", showStatus);
  every(1000, () => say(hint, silent() ? "Touch the page once: the browser allows no sound before." : ""));
  gateway.subscribe({ status: true });
  show(gateway.alarms);
}
