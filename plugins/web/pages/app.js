// The frame around the pages: header, navigation, themes, the cover when the link is lost.

import { h, icon, say, set, redraw, toast } from "./dom.js";
import { gateway, wantsAttention } from "./gateway.js";
import { sound } from "./sound.js";
import * as theme from "./theme.js";

const PAGES = [
  ["health", "Health"], ["data", "Data"], ["engine", "Engine"], ["alarms", "Alarms"], ["trends", "Trends"],
  ["can", "CAN"], ["log", "Log"], ["recordings", "Recordings"], ["configuration", "Configuration"], ["bench", "Bench"],
  ["settings", "Settings"],
];
const FIRST = 4; // pages in the bar of a phone; the rest is behind "More"
const TITLES = Object.fromEntries([...PAGES, ["pair", "Pair"], ["more", "More"]]);

const main = document.getElementById("main");
const cover = document.getElementById("cover");
let close = () => {};
let opened = 0;
let focused = null; // what had the focus before the page was covered

// -- header -------------------------------------------------------------------------------------------------------------

const light = h("span", { class: "light" }, "…");
const life = h("span", { class: "life", title: "Moves with each message", "aria-hidden": "true" });
const verdict = h("a", { class: "verdict", href: "#health", role: "status" }, "Waiting for the gateway");
const marks = h("span", { class: "marks" });
const alarms = h("a", { class: "alarm-button", href: "#alarms" });
const night = h("button", {
  type: "button", class: "night", "aria-label": "Night colours", title: "Night colours (n)", onclick: theme.toggleNight,
}, icon("moon"));
addEventListener("theme", () => set(night, "aria-pressed", String(theme.isNight())));
document.getElementById("header").append(h("span", { class: "link" }, light, life), verdict, marks, alarms, night);

const LIGHTS = {
  waiting: ["…", "Waiting for the gateway"], live: ["LIVE", "The link to the gateway is alive"],
  lost: ["NO LINK", "The link to the gateway is lost"], unpaired: ["LOCKED", "This browser is not paired"],
};

function showLink(state) {
  const [word, title] = LIGHTS[state];
  say(light, word);
  set(light, "title", title);
  document.body.dataset.link = state;
  const lost = state === "lost" || state === "waiting";
  const local = main.dataset.page === "pair" || main.dataset.page === "settings" || main.dataset.page === "more";
  cover.hidden = !lost || local;
  if (!cover.hidden && !main.inert) focused = main.contains(document.activeElement) ? document.activeElement : null;
  const returns = cover.hidden && main.inert;
  main.inert = !cover.hidden;
  if (returns) focused?.focus({ preventScroll: true });
  redraw(cover, [cover.hidden, state], () => cover.hidden ? [] : state === "lost"
    ? [h("div", {}, h("strong", {}, "No data from the gateway."), h("p", {}, "Nothing on this page is current."))]
    : [h("div", {}, h("strong", {}, "Waiting for the gateway."), h("p", {}, "There are no values yet."))]);
  if (state === "unpaired" && main.dataset.page !== "pair") location.hash = "#pair";
  if (state !== "live") showVerdict(null);
}

let angle = 0;
gateway.on("tick", () => {
  angle = (angle + 30) % 360;
  life.style.transform = `rotate(${angle}deg)`;
});

const SILENCE = { live: "⚠ The gateway sends values, but not how it is", lost: "No data", waiting: "…", unpaired: "Not paired" };

function showVerdict(facts) {
  const well = facts?.health === "ok";
  set(verdict, "class", `verdict ${facts ? (well ? "well" : "unwell") : ""}`);
  say(verdict, facts ? `${well ? "✓" : "⚠"} ${facts.summary}` : SILENCE[gateway.state]);
  document.body.dataset.status = facts || gateway.state !== "live" ? "" : "old";
  // The gateway counts this for all its values, not only for those on this page.
  const words = facts ? [
    facts.simulated && "SIMULATED", facts.replayed && "REPLAY",
    facts.overridden && `${facts.overridden} OVERRIDE${facts.overridden > 1 ? "S" : ""}`,
  ].filter(Boolean) : [];
  redraw(marks, words, () => words.map((word) => h("span", { class: "mark" }, word)));
  showAlarms(facts && gateway.alarms); // they come from where the verdict does
}

/** `list` is null if nobody knows. */
function showAlarms(list) {
  if (!list) {
    set(alarms, "class", "alarm-button none");
    set(alarms, "aria-label", "alarms unknown");
    redraw(alarms, null, () => [icon("alarms"), h("b", {}, "?")]);
    return sound([]);
  }
  const attention = list.filter(wantsAttention);
  list = list.filter((alarm) => alarm.state !== "shelved");
  const worst = ["warning", "caution", "advisory"].find((level) => attention.some((a) => a.level === level));
  set(alarms, "class", `alarm-button ${worst ?? (list.length ? "quiet" : "none")}`);
  set(alarms, "aria-label", attention.length ? `${attention.length} alarms not acknowledged` : `${list.length} alarms`);
  redraw(alarms, [attention.length, list.length, worst], () => [
    icon("alarms"), list.length ? h("b", {}, String(list.length)) : "", worst === "warning" ? h("b", {}, "!") : "",
  ]);
  return sound(attention);
}

// -- navigation ---------------------------------------------------------------------------------------------------------

const entry = ([name, title]) => h("a", { href: `#${name}`, "data-page": name }, icon(name), h("span", {}, title));
const nav = document.getElementById("nav");
nav.append(
  ...PAGES.map((page, n) => { const link = entry(page); if (n >= FIRST) link.classList.add("later"); return link; }),
  (() => { const link = entry(["more", "More"]); link.classList.add("phone"); return link; })(),
);

const more = ({ root }) => root.append(h("div", { class: "menu" }, PAGES.slice(FIRST).map(entry)));

function route() {
  const [name, rest = ""] = location.hash.slice(1).replace(/^pair=/, "pair?code=").split("?"); // as fixgw web pair prints it
  return { name: TITLES[name] ? name : "health", query: new URLSearchParams(rest) };
}

async function open() {
  const { name, query } = route();
  const turn = ++opened;
  close();
  close = () => {};
  document.body.classList.toggle("kiosk", query.has("kiosk"));
  const asked = theme.THEMES.find((each) => query.has(each));
  if (asked) theme.show(asked);
  document.title = `${TITLES[name]} · FIX Gateway`;
  for (const link of nav.children) {
    const here = link.dataset.page === name || (link.dataset.page === "more" && !PAGES.slice(0, FIRST).some(([p]) => p === name));
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const page = name === "more" ? { open: more } : await import(`./pages/${name}.js`);
  if (turn !== opened) return; // another page was opened meanwhile
  const endings = [];
  main.dataset.page = name;
  main.replaceChildren(h("h1", {}, TITLES[name]));
  gateway.subscribe({});
  close = () => endings.forEach((end) => end());
  await page.open({
    root: main,
    query,
    /** Listen to the gateway until the page is closed. */
    on: (event, listener) => endings.push(gateway.on(event, listener)),
    /** Call something now and again until the page is closed. */
    every: (ms, call) => {
      const timer = setInterval(call, ms);
      endings.push(() => clearInterval(timer));
      call();
    },
    ending: (call) => endings.push(call),
    go: (hash) => (location.hash = hash),
  });
  showLink(gateway.state);
  scrollTo(0, 0);
}

addEventListener("hashchange", open);
document.getElementById("skip").addEventListener("click", () => main.focus());
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
  if (event.key === "n") night.click();
  const page = PAGES[(Number(event.key) || 0) - 1];
  if (page && /^[1-9]$/.test(event.key)) location.hash = `#${page[0]}`;
  if (event.key === "/") {
    const search = main.querySelector("input[type=search]");
    if (search) { search.focus(); event.preventDefault(); }
  }
});

gateway.on("link", showLink);
gateway.on("verdict", showVerdict);
addEventListener("unhandledrejection", (event) => toast(event.reason?.message ?? "something failed", "error"));

theme.show(theme.chosen());
showLink("waiting");
open();
gateway.start();
