// What the recorder has written, to take home.

import { h, redraw, span } from "../dom.js";
import { gateway } from "../gateway.js";

const size = (bytes) => (bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

export async function open({ root, every }) {
  const place = h("div", {}, h("p", { class: "muted" }, "Asking the gateway …"));
  root.append(place);
  every(5000, async () => {
    if (gateway.state === "lost") return;
    let answer;
    try {
      answer = await gateway.get("recordings");
    } catch (error) {
      redraw(place, error.message, () => h("p", { class: "muted empty" }, error.message));
      return;
    }
    redraw(place, answer, () => answer.recordings.length ? h("ul", { class: "recordings" }, answer.recordings.map(entry))
      : h("p", { class: "muted empty" }, "There are no recordings. A connection of the module recorder makes them."));
  });
}

function entry(each) {
  const address = `api/v1/recordings/${encodeURIComponent(each.name)}`;
  return h("li", { class: "card" }, h("b", {}, each.name),
    h("small", { class: "muted" }, [each.start ?? "", each.seconds ? span(each.seconds) : "", size(each.size)].filter(Boolean).join(" · ")),
    h("span", { class: "links" }, h("a", { class: "button", href: address, download: each.name }, "Download"),
      h("a", { class: "button", href: `${address}?format=csv`, download: `${each.name.replace(/\.mcap$/, "")}.csv` }, "As CSV")));
}
