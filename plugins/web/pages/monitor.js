// The traffic on a CAN-FIX bus in words. The gateway is asked once a second, while the page is open and can be seen.

import { card, h, say, set, span } from "./dom.js";
import { gateway } from "./gateway.js";

const POLL_MS = 1000, AGES_MS = 250;
const QUIET_S = 3; // what was heard longer ago is marked
const SIGNS = { fail: "✕ fail", bad: "⚠ bad", annunciate: "● annunciate" };

/** Put the monitor into `root`. Returns what to call with the names of the buses that have one. */
export function monitor({ root, query, on, every }) {
  let lines = []; // one for each row of the answer, in its order
  let turn = 0; // whatever answers a question of an earlier turn is thrown away
  let asking = false;
  let paused = null; // since when

  const bus = h("select", { "aria-label": "Bus", onchange: () => { clear(); ask(); } });
  const search = h("input", { type: "search", placeholder: "Filter by node, parameter, key, id, value, flag", "aria-label": "Filter", value: query.get("search") ?? "", oninput: sift });
  const pause = h("button", { type: "button", "aria-pressed": "false", onclick: () => {
    paused = paused === null ? performance.now() : null;
    set(pause, "aria-pressed", String(paused !== null));
    turn += 1;
    asking = false;
    age();
    ask();
  } }, "Pause");
  const count = h("span", { class: "muted" });
  const note = h("p", { class: "why bad", hidden: true });
  const list = h("ol", { class: "traffic", "aria-label": "Traffic" });
  const place = card("Traffic", h("div", { class: "tools" }, bus, search, pause, count), note, list);
  place.hidden = true;
  root.append(place);

  function clear() {
    turn += 1;
    asking = false;
    lines = [];
    list.replaceChildren();
    say(count, "");
    tell("");
  }

  function tell(words) {
    say(note, words);
    note.hidden = !words;
  }

  async function ask() {
    if (asking || paused !== null || place.hidden || gateway.state !== "live" || document.visibilityState !== "visible") return;
    const mine = turn, asked = performance.now();
    asking = true;
    try {
      const answer = await gateway.get(`can/${encodeURIComponent(bus.value)}/monitor`);
      if (mine !== turn) return;
      show(answer, asked);
    } catch (error) {
      if (mine === turn) tell(error.message); // what is shown grows old
    } finally {
      if (mine === turn) asking = false;
    }
  }

  /** `asked`: the ages count from the question, so that no row looks younger than it is. */
  function show(answer, asked) {
    while (lines.length < answer.rows.length) lines.push(line());
    lines.splice(answer.rows.length);
    answer.rows.forEach((row, n) => lines[n].show(row, asked));
    if (list.children.length !== lines.length) list.replaceChildren(...lines.map((each) => each.element));
    tell(answer["left out"] ? `There was no room for ${answer["left out"]} frames of other kinds.` : "");
    sift();
    age();
  }

  function sift() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const each of lines) {
      each.element.hidden = !words.every((word) => each.words.includes(word));
      shown += !each.element.hidden;
    }
    say(count, lines.length ? `${shown} of ${lines.length}` : "nothing heard yet");
  }

  function age() {
    const now = performance.now();
    for (const each of lines) each.age(now);
    say(pause, paused === null ? "Pause" : `Paused ${span((now - paused) / 1000)} ago`);
  }

  on("link", (state) => state !== "live" && clear());
  every(POLL_MS, ask);
  every(AGES_MS, age);

  return (names) => {
    if (JSON.stringify(names) !== JSON.stringify([...bus.options].map((option) => option.value))) {
      const before = bus.value;
      bus.replaceChildren(...names.map((name) => h("option", { value: name, selected: name === before }, name)));
      if (bus.value !== before) clear();
    }
    bus.hidden = names.length < 2;
    place.hidden = !names.length;
    if (!lines.length) ask();
  };
}

/** One kind of frame from one node. */
function line() {
  const part = (look) => h("span", { class: look });
  const id = part("id"), about = part("about"), from = part("muted"), value = part("value"), flags = part("flags");
  const rate = part("muted"), when = part("when"), data = part("data muted");
  const element = h("li", {}, id, about, value, flags, from, rate, when, data);
  let heard = 0; // when, in seconds of the browser's clock
  return {
    element,
    words: "",
    show(row, asked) {
      heard = asked / 1000 - row.age;
      say(id, row.id);
      say(about, row.key ? `${row.key} · ${row.about}` : row.about);
      say(value, row.value);
      const signs = row.flags.map((flag) => SIGNS[flag] ?? flag).join(", ");
      say(flags, signs);
      const node = row.node === null ? "" : `node ${row.node}`;
      say(from, [node, row.name].filter(Boolean).join(" · "));
      say(rate, `${row.rate === null ? "…" : row.rate}/s, ${row.count} frames`);
      say(data, row.data);
      set(element, "data-flag", row.flags.includes("fail") ? "fail" : "");
      this.words = [row.id, row.kind, node, row.name, row.key, row.about, row.value, ...row.flags, row.meta ?? "", row.data].join(" ").toLowerCase();
    },
    age(now) {
      const seconds = now / 1000 - heard;
      const quiet = seconds > QUIET_S;
      say(when, `${quiet ? "◷ " : ""}${span(seconds)} ago`);
      set(element, "class", quiet ? "quiet" : "");
    },
  };
}
