// The nodes on each CAN bus, and the state of the bus, from the status of the connections; and what goes over it.

import { card, h, redraw, span } from "../dom.js";
import { gateway } from "../gateway.js";
import { monitor } from "../monitor.js";

const BUS = ["interface", "channel", "bit rate", "connected", "controller", "adapter", "received per second", "sent per second",
  "error frames", "bus off", "lost", "dropped", "unsendable", "misfits", "not mapped"];
const ERRORS = ["CAN Transmit Error Counter", "CAN Receive Error Counter", "CAN Receive Overrun Counter"];

export function open({ root, query, on, every }) {
  const place = h("div", {}, h("p", { class: "muted" }, "Asking the gateway …"));
  root.append(place);
  const watch = monitor({ root, query, on, every });
  on("status", (status) => {
    const buses = Object.entries(status.connections).filter(([, each]) => each.status && "received per second" in each.status);
    redraw(place, buses.map(([name, each]) => [name, each.health, each.status]), () => buses.length ? buses.map(([name, each]) => bus(name, each))
      : h("p", { class: "muted empty" }, "No connection speaks CAN."));
    watch(buses.filter(([, each]) => each.status.nodes).map(([name]) => name));
  });
  gateway.subscribe({ status: true });
}

function bus(name, { health, status }) {
  const nodes = Object.entries(status.nodes ?? {});
  const conflicts = Object.entries(status.conflicts ?? {});
  return card(name,
    h("p", { class: health === "ok" ? "word well" : "word unwell" }, health === "ok" ? "✓ well" : `⚠ ${health}`),
    h("dl", { class: "facts" }, BUS.filter((key) => status[key] !== undefined).map((key) => h("div", {}, h("dt", {}, key), h("dd", {}, words(status[key]))))),
    conflicts.map(([key, what]) => h("p", { class: "why bad" }, `Conflict: ${key}: ${words(what)}`)),
    nodes.length > 0 && h("div", { class: "wide" }, h("table", { class: "nodes" },
      h("thead", {}, h("tr", {}, ["Node", "Description", "Heard", "Frames", "Errors", "Type"].map((t) => h("th", { scope: "col" }, t)))),
      h("tbody", {}, nodes.map(([id, node]) => row(id, node))))));
}

function row(id, node) {
  const rate = Object.values(node.rates ?? {}).reduce((sum, each) => sum + each, 0);
  const errors = ERRORS.filter((key) => node[key]).map((key) => `${key.replace("CAN ", "").replace(" Counter", "")} ${node[key]}`);
  const quiet = node["last seen"] > 3;
  return h("tr", { class: quiet ? "unwell" : "" }, h("th", { scope: "row" }, id), h("td", { class: "long" }, node.description ?? ""),
    h("td", {}, quiet ? `⚠ ${span(node["last seen"])} ago` : "✓ now"),
    h("td", {}, `${rate.toFixed(0)}/s`), h("td", {}, errors.join(", ") || "none"), h("td", {}, node.type ?? ""));
}

const words = (value) => (value === true ? "yes" : value === false ? "no" : typeof value === "object" ? JSON.stringify(value) : String(value));
