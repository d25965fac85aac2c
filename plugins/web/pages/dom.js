// Building the document. Every text becomes a text node, never markup: a device may put anything into a string.

/** An element. `attributes` that begin with "on" are listeners; false and null leave an attribute out. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Change what an element or text node says, only if it differs: writing costs a layout. */
export function say(node, text) {
  const place = node.nodeType === 3 ? node : node.firstChild ?? node.appendChild(document.createTextNode(""));
  if (place.nodeValue !== text) place.nodeValue = text;
}

export function set(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** Replace the children of `element` only if `facts`, what they are made from, have changed. */
export function redraw(element, facts, build) {
  const key = JSON.stringify(facts);
  if (element.drawn === key) return;
  element.drawn = key;
  element.replaceChildren(...[build()].flat());
}

const ICONS = {
  health: "M3 12h4l3-8 4 16 3-8h4",
  data: "M4 6h16M4 12h16M4 18h16M9 4v16",
  engine: "M4 17a9 9 0 1 1 16 0M12 14l4-5",
  alarms: "M6 17V11a6 6 0 0 1 12 0v6l2 2H4zM10 21h4",
  trends: "M3 20h18M3 16l5-6 4 4 5-8 4 3",
  can: "M4 8h16M4 16h16M8 8v8M16 8v8M12 4v4M12 16v4",
  log: "M5 4h14v16H5zM8 8h8M8 12h8M8 16h5",
  recordings: "M12 4v11M7 11l5 5 5-5M4 20h16",
  configuration: "M4 7h9M17 7h3M4 17h3M11 17h9M13 4v6M7 14v6",
  bench: "M14 4a5 5 0 0 0-4 7l-6 6 3 3 6-6a5 5 0 0 0 7-6l-3 3-3-3 3-3a5 5 0 0 0-3-1z",
  settings: "M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM12 3v3M12 18v3M3 12h3M18 12h3M6 6l2 2M16 16l2 2M18 6l-2 2M8 16l-2 2",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  moon: "M20 14A8 8 0 1 1 10 4a7 7 0 0 0 10 10z",
};

export function icon(name) {
  return svg("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" }, svg("path", { d: ICONS[name] }));
}

/** A section with a heading. */
export function card(title, ...children) {
  return h("section", { class: "card" }, h("h2", {}, title), ...children);
}

/** Seconds as people say them: "< 1 s", "4.2 s", "3 min", "2 h 05 min". */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return "never";
  if (seconds < 1) return "< 1 s"; // what is renewed all the time does not flicker
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  const hours = Math.floor(seconds / 3600);
  if (hours >= 48) return `${Math.floor(hours / 24)} days`;
  return `${hours} h ${String(Math.floor((seconds % 3600) / 60)).padStart(2, "0")} min`;
}

/** Say that something was done or refused, for a few seconds. */
export function toast(text, level = "note") {
  const place = h("p", { class: `toast ${level}` }, text);
  document.getElementById("toasts").append(place);
  setTimeout(() => place.remove(), level === "note" ? 4000 : 8000);
}

/** Ask whether to do it; a promise of true or false. Unlike the browser's own question, the page lives on meanwhile. */
export function confirmed(question, yes = "Do it all the same") {
  return new Promise((resolve) => {
    const button = (text, value, look) => h("button", { type: "button", class: look, onclick: () => dialog.close(value) }, text);
    const dialog = h("dialog", { class: "card", "aria-label": "Question", onclose: () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    } }, h("p", {}, question), h("div", { class: "inline" }, button("Cancel", "", ""), button(yes, "yes", "danger")));
    document.body.append(dialog);
    dialog.showModal();
  });
}
