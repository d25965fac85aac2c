// Gauges from the items themselves: the scale from aux Min and Max, the bands from the limits. A needle or a bar is
// drawn only while the value is neither old, bad nor failed; otherwise there is a cross and a word.

import { h, say, set, svg } from "./dom.js";
import { condition, gateway, mark, usable } from "./gateway.js";
import { format, showing, written } from "./units.js";

const SWEEP = 240; // degrees, symmetric about the top
const CENTRE = [60, 60], RADIUS = 48;
const TAGS = { SIMULATED: "SIM", REPLAY: "REPLAY", OVERRIDE: "OVERRIDE" };

/** The ends of an item's scale, `[low, high]`; null if it has none. */
export function scale(item) {
  const low = item.aux?.Min ?? item.min, high = item.aux?.Max ?? item.max;
  return Number.isFinite(low) && Number.isFinite(high) && high > low && high - low < 1e6 ? [low, high] : null;
}

/** Which band a value is in: `{level, word, limit}`, the limit by its name. */
export function zone(item, value) {
  const { lowAlarm, lowWarn, highWarn, highAlarm } = item.aux ?? {};
  const given = (limit) => limit !== null && limit !== undefined;
  if (given(highAlarm) && value >= highAlarm) return { level: "alarm", word: "▲ HIGH", limit: "highAlarm" };
  if (given(lowAlarm) && value <= lowAlarm) return { level: "alarm", word: "▼ LOW", limit: "lowAlarm" };
  if (given(highWarn) && value >= highWarn) return { level: "warn", word: "▲ high", limit: "highWarn" };
  if (given(lowWarn) && value <= lowWarn) return { level: "warn", word: "▼ low", limit: "lowWarn" };
  return { level: "normal", word: "", limit: "" };
}

/** The coloured stretches of a scale: `[from, to, level]`, each between 0 and 1. */
function bands(item, [low, high]) {
  const { lowAlarm, lowWarn, highWarn, highAlarm } = item.aux ?? {};
  const limits = [lowAlarm, lowWarn, highWarn, highAlarm];
  if (limits.every((limit) => limit === null || limit === undefined)) return [];
  const part = (value) => Math.min(1, Math.max(0, (value - low) / (high - low)));
  const a = lowAlarm ?? low, b = Math.max(lowWarn ?? a, a), d = highAlarm ?? high, c = Math.min(highWarn ?? d, d);
  return [[low, a, "alarm"], [a, b, "warn"], [b, c, "normal"], [c, d, "warn"], [d, high, "alarm"]]
    .map(([from, to, level]) => [part(from), part(to), level]).filter(([from, to]) => to - from > 0.002);
}

/** What every kind of gauge shows: name, number, units, state in words, and whether the value is real. */
class Gauge {
  constructor(item, name, kind, ...picture) {
    this.item = item;
    this.how = showing(item);
    this.scale = scale(item);
    this.value = h("span", { class: "value" }, "—");
    this.state = h("span", { class: "state" });
    this.tag = h("span", { class: "tag" });
    this.element = h("a", { class: `gauge ${kind}`, href: `#data?open=${item.key}&search=${item.key}`, "data-key": item.key, title: item.description || item.key },
      h("span", { class: "name" }, name), ...picture,
      h("span", { class: "reading" }, this.value, h("span", { class: "units" }, written(this.how.units))), this.state, this.tag);
  }

  draw() {
    const reading = gateway.readings.get(this.item.key);
    const works = usable(reading);
    const { word, sign, level } = condition(reading);
    const found = works && typeof reading.value === "number" ? zone(this.item, reading.value) : null;
    say(this.value, works ? format(reading.value, this.how) : reading && reading.value !== null ? format(reading.value, this.how) : "—");
    say(this.state, works ? found?.word || (level === "good" ? "" : `${sign} ${word}`) : `${sign} ${word}`);
    set(this.element, "data-level", works ? found?.level ?? "normal" : level === "note" ? "normal" : level);
    say(this.tag, reading ? TAGS[mark(gateway.sourceOf(reading))] ?? "" : "");
    this.point(works && this.scale ? this.part(reading.value) : null);
    return works ? reading.value : null;
  }

  part(value) {
    const [low, high] = this.scale;
    return Math.min(1, Math.max(0, (value - low) / (high - low)));
  }
}

const polar = (part, radius) => {
  const angle = ((part - 0.5) * SWEEP * Math.PI) / 180;
  return [CENTRE[0] + radius * Math.sin(angle), CENTRE[1] - radius * Math.cos(angle)].map((n) => n.toFixed(2));
};
const arc = (from, to, radius) =>
  `M${polar(from, radius)}A${radius} ${radius} 0 ${(to - from) * SWEEP > 180 ? 1 : 0} 1 ${polar(to, radius)}`;

export class Dial extends Gauge {
  constructor(item, name) {
    const ends = scale(item);
    const how = showing(item);
    const needle = svg("path", { class: "needle", d: "M57.5 60 60 17 62.5 60z" });
    const picture = svg("svg", { viewBox: "0 0 120 94", "aria-hidden": "true" },
      svg("path", { class: "track", d: arc(0, 1, RADIUS) }),
      ends && bands(item, ends).map(([from, to, level]) => svg("path", { class: `band ${level}`, d: arc(from, to, RADIUS) })),
      ends && [0, 0.25, 0.5, 0.75, 1].map((part) => svg("path", { class: "tick", d: `M${polar(part, 43)}L${polar(part, 38)}` })),
      ends && [[0, 7, 91], [1, 113, 91]].map(([n, x, y]) => svg("text", { x, y, class: "end", "text-anchor": n ? "end" : "start" },
        format(ends[n], { ...how, decimals: Math.abs(ends[1] - ends[0]) < 10 ? 1 : 0 }))),
      needle, svg("circle", { class: "hub", cx: 60, cy: 60, r: 4.5 }),
      svg("path", { class: "cross", d: "M28 24 92 88M92 24 28 88" }));
    super(item, name, ends ? "dial" : "plain", ends && picture);
    this.needle = needle;
  }

  point(part) {
    this.element.classList.toggle("crossed", part === null);
    if (part !== null) this.needle.style.transform = `rotate(${((part - 0.5) * SWEEP).toFixed(1)}deg)`;
  }
}

export class Bar extends Gauge {
  constructor(item, name) {
    const ends = scale(item);
    const fill = h("span", { class: "fill" });
    const track = h("span", { class: "track" }, fill);
    if (ends) {
      for (const [from, to, level] of bands(item, ends)) {
        const band = h("span", { class: `band ${level}` });
        band.style.bottom = `${from * 100}%`;
        band.style.height = `${(to - from) * 100}%`;
        track.append(band);
      }
    }
    track.append(svg("svg", { class: "cross", viewBox: "0 0 10 10", preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("path", { d: "M0 0 10 10M10 0 0 10", "vector-effect": "non-scaling-stroke" })));
    super(item, name, "bar", track);
    this.fill = fill;
    this.hottest = this.element.appendChild(h("span", { class: "hottest" }));
  }

  point(part) {
    this.element.classList.toggle("crossed", part === null);
    this.fill.style.transform = `scaleY(${part ?? 0})`;
  }
}
