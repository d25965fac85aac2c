// What the recorder has written, to take home.

import { h, redraw, span } from "../dom.js";
import { gateway } from "../gateway.js";

const EVERY_MS = 10000;

const size = (bytes) => (bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);
const clock = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 16);

export function open({ root, every }) {
  const place = h("div", {}, h("p", { class: "muted" }, "Asking the gateway …"));
  root.append(place);
  every(EVERY_MS, async () => {
    if (gateway.state === "lost") return;
    try {
      const { recordings } = await gateway.get("recordings");
      redraw(place, recordings, () => recordings.length ? h("ul", { class: "recordings" }, recordings.map(entry))
        : h("p", { class: "muted empty" }, "There are no recordings. A connection of the module recorder makes them."));
    } catch (error) {
      redraw(place, error.message, () => h("p", { class: "muted empty" }, error.message));
    }
  });
}

function entry(each) {
  const address = `api/v1/recordings/${encodeURIComponent(each.name)}`;
  const facts = [
    each.dated && each.start ? new Date(each.start * 1000).toISOString().slice(0, 16).replace("T", " ") + " UTC" : "", span(each.end - each.start),
    each.takeoff ? `take-off ${clock(each.takeoff)}` : "", each.landing ? `landing ${clock(each.landing)}` : "", size(each.size),
    each.ident, each.being_written ? "being written" : each.complete ? "" : "ends abruptly", each.keep ? "kept" : "",
  ].filter(Boolean).join(" · ");
  return h("li", { class: "card" },
    h("span", {}, h("b", {}, each.name), " ", each.simulated && h("span", { class: "mark" }, "SIMULATED")),
    h("small", { class: "muted" }, facts), each.alert && h("small", {}, `Worst alert: ${each.level} ${each.alert}`),
    each.trouble ? h("p", { class: "why fail" }, each.trouble) : h("span", { class: "links" },
      h("a", { class: "button", href: `#trends?recording=${encodeURIComponent(each.name)}` }, "Trends"),
      h("a", { class: "button", href: address, download: "" }, "Download"), h("a", { class: "button", href: `${address}?to=csv`, download: "" }, "As CSV")));
}
