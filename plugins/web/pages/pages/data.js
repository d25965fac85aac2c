// Every key: value, flags in words, age, rate, source; a row opens the explanation.

import { h, say, set, span } from "../dom.js";
import { condition, gateway, unwell } from "../gateway.js";
import { format, showing, written } from "../units.js";
import { explanation } from "../explain.js";
import { pinned, togglePin } from "../pins.js";

const COLUMNS = [["key", "Key"], ["value", "Value"], ["flags", "Flags"], ["age", "Age"], ["rate", "Rate"], ["source", "Source"]];
const COUNT_MS = 2000; // over which rates are measured

class Row {
  constructor(item, order) {
    this.item = item;
    this.order = order;
    this.rate = 0;
    this.visible = false;
    this.stale = true;
    this.how = showing(item);
    this.value = h("span", { class: "value" });
    this.units = h("span", { class: "units" }, written(this.how.units));
    this.flags = h("span", { class: "flags" });
    this.age = h("span", { class: "age" });
    this.rateText = h("span", { class: "rate" });
    this.source = h("span", { class: "source" });
    this.pin = h("button", {
      type: "button", class: "pin", "aria-label": `Pin ${item.key}`,
      onclick: () => { togglePin(item.key); this.drawPin(); },
    });
    this.drawPin();
    this.open = h("button", { type: "button", class: "open", "aria-expanded": "false" },
      h("b", {}, item.key), h("small", {}, item.description));
    const cell = (...children) => h("div", { role: "cell" }, ...children);
    this.element = h("div", { class: "row", role: "row", id: `r-${item.key}` },
      cell(this.pin), cell(this.open), cell(this.value, " ", this.units), cell(this.flags), cell(this.age),
      cell(this.rateText), cell(this.source));
    this.element.row = this;
    this.words = `${item.key} ${item.description} ${item.units} ${written(item.units)}`.toLowerCase();
  }

  get reading() {
    return gateway.readings.get(this.item.key);
  }

  draw() {
    this.stale = false;
    const { reading } = this;
    const { word, sign, level } = condition(reading);
    say(this.value, reading ? format(reading.value, this.how) : "—");
    say(this.flags, `${sign} ${word}`);
    if (this.level !== level) {
      this.level = level;
      this.element.dataset.level = level;
    }
    say(this.source, reading ? gateway.sourceOf(reading) : "");
  }

  drawPin() {
    set(this.pin, "aria-pressed", String(pinned(this.item.key)));
    say(this.pin, pinned(this.item.key) ? "★" : "☆");
  }

  drawAge(now) {
    const age = this.reading ? gateway.age(this.reading, now) : null;
    say(this.age, age === null ? "never" : span(age));
    say(this.rateText, this.rate ? `${this.rate} Hz` : "");
  }

  matches(words, filter) {
    const { reading } = this;
    if (filter === "live" && !words.length && !(reading?.age != null || this.item.feeders?.length)) return false; // a search finds all
    if (filter === "unwell" && !unwell(this.item, reading)) return false;
    if (filter === "pinned" && !pinned(this.item.key)) return false;
    if (!words.length) return true;
    const all = `${this.words} ${reading ? `${gateway.sourceOf(reading)} ${condition(reading).word}` : ""}`.toLowerCase();
    return words.every((word) => all.includes(word));
  }

  sortKey(column) {
    const { reading } = this;
    switch (column) {
      case "key": return this.item.key;
      case "value": return typeof reading?.value === "number" ? reading.value : String(reading?.value ?? "");
      case "flags": return -(reading?.flags ?? 0);
      case "age": return (reading && gateway.age(reading)) ?? Infinity;
      case "rate": return -this.rate;
      case "source": return reading ? gateway.sourceOf(reading) : "";
      default: return this.order;
    }
  }
}

export function open({ root, query, on, every, ending }) {
  let rows = new Map();
  let sort = query.get("sort") ?? "";
  let descending = false;
  let filter = query.get("filter") ?? "live";
  let expanded = null; // {row, element, close}
  let counted = performance.now();
  let waiting = true; // for the first values
  const only = query.get("keys")?.split(",");

  const search = h("input", {
    type: "search", placeholder: "Search key, description, unit, source, flag", "aria-label": "Search", value: query.get("search") ?? "",
    autocomplete: "off", autocapitalize: "off", spellcheck: "false", oninput: () => arrange(),
  });
  const filters = h("div", { class: "choices", role: "group", "aria-label": "Show" });
  const count = h("span", { class: "muted", role: "status" });
  for (const [name, title] of [["all", "All"], ["live", "Live"], ["unwell", "Not well"], ["pinned", "Pinned"]]) {
    filters.append(h("button", {
      type: "button", "data-filter": name, "aria-pressed": String(filter === name),
      onclick: () => {
        filter = name;
        for (const each of filters.children) each.setAttribute("aria-pressed", String(each.dataset.filter === name));
        arrange();
      },
    }, title));
  }
  const head = h("div", { class: "row head", role: "row" }, h("div", { role: "columnheader", "aria-label": "Pin" }),
    COLUMNS.map(([name, title]) => h("div", { role: "columnheader", "data-column": name },
      h("button", { type: "button", onclick: () => { descending = sort === name && !descending; sort = name; arrange(); } }, title))));
  const body = h("div", { role: "rowgroup" });
  const table = h("div", { class: "table", role: "table", "aria-label": "Values" }, h("div", { role: "rowgroup" }, head), body);
  const nothing = h("p", { class: "muted empty", hidden: true }, "No key matches.");
  root.append(h("div", { class: "tools" }, search, filters, count), table, nothing);

  // Rows on the screen follow each message, the others once a second: a screen reader or a search finds them, too.
  const watch = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      target.row.visible = isIntersecting;
      if (isIntersecting) {
        if (target.row.stale) target.row.draw();
        target.row.drawAge(performance.now());
      }
    }
  }, { rootMargin: "100px" });
  ending(() => watch.disconnect());

  function build() {
    collapse();
    watch.disconnect();
    rows = new Map([...gateway.items.values()].filter((item) => !only || only.includes(item.key))
      .map((item, n) => [item.key, new Row(item, n)]));
    for (const row of rows.values()) row.open.addEventListener("click", () => expand(row));
    arrange();
    for (const row of rows.values()) watch.observe(row.element);
    const wanted = query.get("open");
    if (wanted && rows.has(wanted)) {
      expand(rows.get(wanted));
      rows.get(wanted).element.scrollIntoView({ block: "center" });
    }
  }

  /** Filter and sort. Rows keep their place until the user asks again. */
  function arrange() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const shown = [...rows.values()].filter((row) => row === expanded?.row || row.matches(words, filter));
    const order = (row) => [pinned(row.item.key) && !sort ? 0 : 1, row.sortKey(sort)];
    const keys = new Map(shown.map((row) => [row, order(row)]));
    const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b
      : typeof a === typeof b ? String(a).localeCompare(String(b), "en", { numeric: true }) : typeof a === "number" ? -1 : 1;
    shown.sort((a, b) => keys.get(a)[0] - keys.get(b)[0] || (descending ? -1 : 1) * compare(keys.get(a)[1], keys.get(b)[1]) || a.order - b.order);
    if (shown.length !== body.children.length - (expanded ? 1 : 0) || shown.some((row, n) => row !== arrange.last?.[n])) {
      arrange.last = shown;
      body.replaceChildren(...shown.flatMap((row) => row === expanded?.row ? [row.element, expanded.element] : [row.element]));
    }
    for (const cell of head.querySelectorAll("[data-column]")) {
      const here = cell.dataset.column === sort;
      if (here) cell.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    }
    say(count, `${shown.length} of ${rows.size}`);
    nothing.hidden = shown.length > 0 || rows.size === 0;
  }

  function collapse() {
    if (!expanded) return;
    expanded.row.open.setAttribute("aria-expanded", "false");
    expanded.close();
    expanded.element.remove();
    expanded = null;
  }

  function expand(row) {
    const same = expanded?.row === row;
    collapse();
    if (same) return;
    const { element, close } = explanation(row.item);
    row.open.setAttribute("aria-expanded", "true");
    row.element.after(element);
    expanded = { row, element, close };
  }
  ending(collapse);

  on("items", build);
  on("values", (dirty) => {
    for (const key of dirty) {
      const row = rows.get(key);
      if (!row) continue;
      if (row.visible) row.draw();
      else row.stale = true;
    }
    if (waiting) arrange();
    waiting = false;
  });
  every(1000, () => {
    const now = performance.now();
    if (now - counted >= COUNT_MS) {
      for (const row of rows.values()) {
        row.rate = Math.round((gateway.counts.get(row.item.key) ?? 0) / ((now - counted) / 1000));
      }
      gateway.counts.clear();
      counted = now;
    }
    for (const row of rows.values()) {
      if (row.stale) row.draw();
      row.drawAge(now);
    }
    if (filter === "unwell" || filter === "live") arrange();
  });
  gateway.subscribe({ keys: only ?? "*", rate: Number(query.get("rate")) || 5, status: true });
  if (gateway.items.size) build();
}
