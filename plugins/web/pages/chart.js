// A chart of values over the last minutes, or of a stretch of a recording, on a canvas: time axis, scales, gaps, a
// cursor, several series.
//
// A stretch that was old, bad or failed is a gap. Times are seconds of the browser's monotonic clock, or since the
// beginning of the recording.

import { h, say, toast } from "./dom.js";
import { UNUSABLE, gateway } from "./gateway.js";
import { converted, format, showing, written } from "./units.js";

const DRAW_MS = 250;
const STEP_S = 0.5; // one point per half second is kept
const LEFT = 52, RIGHT = 10, TOP = 8, BOTTOM = 22; // pixels around the picture
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600]; // of the time axis of a recording
const DASHES = [[], [7, 3], [2, 3], [10, 3, 2, 3], [4, 4], [1, 2]];

const now = () => performance.now() / 1000;

/** What the gateway remembers: key -> list of `[time, value or null]`, oldest first. */
async function history(keys, seconds) {
  const { age, step, keys: found } = await gateway.get(`history?keys=${keys.map(encodeURIComponent).join(",")}&seconds=${seconds}`);
  const newest = now() - age;
  const points = ({ values, flags }) =>
    values.map((value, n) => [newest - (values.length - 1 - n) * step, flags[n] & UNUSABLE ? null : value]);
  return new Map(Object.entries(found).map(([key, series]) => [key, series ? points(series) : []]));
}

/** What a recording answers for a key, as points: a stroke from the least to the greatest value; alone beside a gap. */
function strokes({ low, high, gaps }, from, step) {
  const broken = new Set(gaps);
  return low.flatMap((value, n) => {
    const t = from + (n + 0.5) * step;
    if (value === null) return [[t, null]];
    const stroke = value === high[n] ? [[t, value]] : n % 2 ? [[t, high[n]], [t, value]] : [[t, value], [t, high[n]]];
    return broken.has(n) ? [[t, null], ...stroke, [t, null]] : stroke;
  });
}

/** When something was recorded: UTC if the recording has a date, or else since its beginning. */
export function moment({ start }, seconds, digits = 0) {
  const ms = Math.round(((start ?? 0) + seconds) * 1000);
  if (start !== null) return new Date(ms).toISOString().slice(11, 19 + (digits && digits + 1));
  const minutes = Math.floor(ms / 60000), scale = 10 ** digits;
  const rest = (Math.floor((ms / 1000 - minutes * 60) * scale) / scale).toFixed(digits);
  return `+${minutes}:${rest.padStart(2 + (digits && digits + 1), "0")}`;
}

/** Round distances between ticks: 1, 2 or 5 times a power of ten. */
function ticks(low, high, most) {
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough * 0.7);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step / 1e6; value += step) found.push(value);
  return { values: found, decimals: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

export class Chart {
  #cursor = null;
  #drawn = -Infinity;
  #endings = [];
  #filling = 0;
  #width = 0;
  #dragged = null; // from where the pointer is dragged, in seconds ago

  /**
   * `series`: `[{key, item}]`, all in the same units. With `past` it shows a recording: `{from, until, step, start}`
   * and `zoom(from, until)`, which is called when a stretch is wanted; the series have its `found`.
   */
  constructor({ height, seconds, series, past = null }) {
    this.past = past;
    this.seconds = past ? past.until - past.from : seconds;
    this.series = series.map((each, n) => ({ ...each, how: showing(each.item), points: past ? strokes(each.found, past.from, past.step) : [], n }));
    this.how = this.series[0].how;
    this.canvas = h("canvas", { tabindex: "0", role: "img", "aria-label": `Chart of ${series.map((s) => s.key).join(", ")}${past ? ", recorded" : ""}` });
    this.canvas.style.height = `${height}px`;
    this.legend = h("ul", { class: "legend" }, this.series.map((each) => {
      each.text = h("span", { class: "value" }, "—");
      return h("li", { class: `series s${each.n % 6}` }, h("span", { class: "line", "aria-hidden": "true" }), h("b", {}, each.key), " ", each.text, " ",
        h("span", { class: "units" }, written(each.how.units)));
    }));
    this.when = h("span", { class: "when muted" });
    this.element = h("figure", { class: "chart" }, h("figcaption", {}, this.legend, this.when), this.canvas);
    this.canvas.addEventListener("pointermove", (event) => this.#point(event.offsetX));
    this.canvas.addEventListener("pointerdown", (event) => {
      this.#point(event.offsetX);
      if (!past || event.button) return;
      this.#dragged = this.#cursor;
      this.canvas.setPointerCapture(event.pointerId);
    });
    this.canvas.addEventListener("pointerup", (event) => {
      const from = this.#dragged;
      this.#dragged = null;
      if (from === null) return;
      this.#point(event.offsetX);
      if (Math.abs(from - this.#cursor) > this.seconds / 50) past.zoom(past.until - Math.max(from, this.#cursor), past.until - Math.min(from, this.#cursor));
    });
    for (const name of ["pointerleave", "pointercancel"]) {
      this.canvas.addEventListener(name, () => { this.#dragged = null; this.#place(null); });
    }
    this.canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: this.seconds / 60, ArrowRight: -this.seconds / 60 }[event.key];
      const scale = { "+": 0.5, "=": 0.5, "-": 2 }[event.key];
      if (past && scale) {
        const middle = past.until - (this.#cursor ?? this.seconds / 2);
        past.zoom(middle - (this.seconds * scale) / 2, middle + (this.seconds * scale) / 2);
      } else if (past && event.key === "0") past.zoom(0, Infinity);
      else if (event.key === "Escape") { this.#dragged = null; this.#place(null); }
      else if (step) { this.#place(Math.min(this.seconds, Math.max(0, (this.#cursor ?? 0) + step))); event.preventDefault(); }
    });
    const theme = () => { this.colours = null; };
    addEventListener("theme", theme);
    const timer = setInterval(() => this.draw(), DRAW_MS);
    this.#endings.push(() => { clearInterval(timer); removeEventListener("theme", theme); });
    if (past) return;
    this.#endings.push(gateway.on("values", (dirty) => this.#add(dirty)), gateway.on("link", (state) => state === "live" && this.#fill()));
    this.#fill();
  }

  close() {
    for (const end of this.#endings) end();
  }

  #point(x) {
    const width = this.canvas.clientWidth - LEFT - RIGHT;
    this.#place(Math.min(this.seconds, Math.max(0, (1 - (x - LEFT) / width) * this.seconds)));
  }

  /** Put the cursor so many seconds ago; null takes it away. */
  #place(ago) {
    this.#cursor = ago;
    this.#drawn = -Infinity;
    this.draw();
  }

  /** Begin with what the gateway remembers: it knows what was while there was no link, or that it was held up itself. */
  async #fill() {
    const turn = ++this.#filling;
    for (const each of this.series) each.points = [];
    const points = await history(this.series.map((each) => each.key), this.seconds).catch((error) => toast(error.message, "error"));
    if (turn !== this.#filling) return; // the link was lost meanwhile
    for (const each of this.series) {
      const first = each.points[0]?.[0] ?? Infinity; // it came meanwhile
      each.points = [...(points?.get(each.key) ?? []).filter(([t]) => t < first), ...each.points];
    }
  }

  #add(dirty) {
    for (const each of this.series) {
      const reading = dirty.has(each.key) && gateway.readings.get(each.key);
      if (!reading) continue;
      const value = reading.flags & UNUSABLE || typeof reading.value !== "number" ? null : reading.value;
      const t = reading.at / 1000;
      const last = each.points.at(-1);
      if (last && t - last[0] < STEP_S && (last[1] === null) === (value === null)) continue;
      each.points.push([t, value]);
      if (each.points.length > 4000) each.points.splice(0, 1000);
    }
  }

  /** A value that has not changed was not sent again, but it lasts while its reading is good. */
  #last(each) {
    if (this.past) return null;
    const reading = gateway.readings.get(each.key);
    return reading && !(reading.flags & UNUSABLE) && typeof reading.value === "number" ? reading.value : null;
  }

  draw() {
    const { canvas, past } = this;
    if (!canvas.isConnected) return;
    if (past ? this.#drawn > 0 && this.colours && this.#width === canvas.clientWidth : now() - this.#drawn < 0.2 || gateway.state !== "live") return;
    this.#drawn = now();
    this.#width = canvas.clientWidth;
    const time = past ? past.until : now();
    const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const draw = canvas.getContext("2d");
    draw.setTransform(ratio, 0, 0, ratio, 0, 0);
    draw.clearRect(0, 0, width, height);
    this.colours ??= this.#colours();
    const from = time - this.seconds;
    let low = Infinity, high = -Infinity;
    for (const each of this.series) {
      const old = each.points.findIndex(([t]) => t >= from);
      if (old > 1) each.points.splice(0, old - 1); // one before the left edge is kept
      const value = this.#last(each);
      each.shown = value === null ? each.points : [...each.points, [time, value]];
      for (const [t, v] of each.shown) {
        if (v === null || t < from) continue;
        const number = converted(v, each.how);
        if (number < low) low = number;
        if (number > high) high = number;
      }
    }
    if (low > high) [low, high] = [0, 1];
    const least = Math.max(Math.abs(high) * 0.01, 4 * 10 ** -(this.how.decimals ?? 2)); // noise does not fill the chart
    if (high - low < least) [low, high] = [(low + high - least) / 2, (low + high + least) / 2];
    const margin = (high - low) * 0.08;
    low -= margin;
    high += margin;
    const x = (t) => LEFT + ((t - from) / this.seconds) * (width - LEFT - RIGHT);
    const y = (v) => TOP + (1 - (v - low) / (high - low)) * (height - TOP - BOTTOM);
    this.#grid(draw, width, height, low, high, x, y, time);
    draw.save();
    draw.beginPath();
    draw.rect(LEFT, 0, width - LEFT - RIGHT, height);
    draw.clip();
    for (const each of this.series) this.#line(draw, each, x, y);
    draw.restore();
    if (past) {
      draw.textAlign = "left";
      draw.fillStyle = this.colours.muted;
      draw.fillText("RECORDING", LEFT + 6, TOP + 12);
    }
    if (this.#cursor !== null) {
      const at = x(time - this.#cursor);
      if (this.#dragged !== null) {
        draw.fillStyle = this.colours.grid;
        draw.globalAlpha = 0.5;
        draw.fillRect(at, TOP, x(time - this.#dragged) - at, height - TOP - BOTTOM);
        draw.globalAlpha = 1;
      }
      draw.strokeStyle = this.colours.text;
      draw.setLineDash([3, 3]);
      draw.beginPath();
      draw.moveTo(at, TOP);
      draw.lineTo(at, height - BOTTOM);
      draw.stroke();
      draw.setLineDash([]);
    }
    this.#read(time);
  }

  #grid(draw, width, height, low, high, x, y, time) {
    draw.font = "12px system-ui, sans-serif";
    draw.fillStyle = this.colours.muted;
    draw.strokeStyle = this.colours.grid;
    draw.lineWidth = 1;
    draw.textAlign = "right";
    draw.textBaseline = "middle";
    const { values, decimals } = ticks(low, high, Math.max(2, Math.floor((height - TOP - BOTTOM) / 34)));
    for (const value of values) {
      const at = Math.round(y(value)) + 0.5;
      line(draw, LEFT, at, width - RIGHT, at);
      draw.fillText(value.toFixed(decimals), LEFT - 6, at);
    }
    draw.textBaseline = "alphabetic";
    if (this.past) return this.#clock(draw, width, height, x);
    const step = [...(this.seconds < 300 ? [5, 10, 15, 30] : []), 60, 120, 180, 300].find((s) => (s / this.seconds) * (width - LEFT - RIGHT) >= 62) ?? 300;
    for (let ago = 0; ago <= this.seconds; ago += step) {
      const at = Math.round(x(time - ago)) + 0.5;
      line(draw, at, TOP, at, height - BOTTOM);
      draw.textAlign = ago === 0 ? "right" : ago === this.seconds ? "left" : "center";
      draw.fillText(ago === 0 ? "now" : step < 60 ? `−${ago} s` : `−${ago / 60} min`, ago === 0 ? width - RIGHT : at, height - 6);
    }
  }

  /** The time axis of a recording. */
  #clock(draw, width, height, x) {
    const { past } = this;
    const start = past.start ?? 0;
    const step = STEPS.find((s) => (s / this.seconds) * (width - LEFT - RIGHT) >= 76) ?? Math.ceil(this.seconds / 36000) * 7200;
    draw.textAlign = "center";
    for (let n = Math.ceil((start + past.from) / step); n * step <= start + past.until; n++) {
      const at = Math.round(x(n * step - start)) + 0.5;
      line(draw, at, TOP, at, height - BOTTOM);
      if (at > LEFT + 20 && at < width - RIGHT - 20) draw.fillText(moment(past, n * step - start, step < 1 ? 1 : 0), at, height - 6);
    }
  }

  #line(draw, each, x, y) {
    draw.strokeStyle = this.colours.series[each.n % 6];
    draw.setLineDash(this.colours.dashed ? DASHES[each.n % 6] : []);
    draw.lineWidth = 2;
    draw.lineJoin = "round";
    draw.beginPath();
    let pen = false;
    for (const [t, v] of each.shown) {
      if (v === null) { pen = false; continue; }
      const [px, py] = [x(t), y(converted(v, each.how))];
      if (pen) draw.lineTo(px, py);
      else { draw.moveTo(px, py); draw.lineTo(px + 1, py); } // a point alone is seen, too
      pen = true;
    }
    draw.stroke();
    draw.setLineDash([]);
  }

  /** The numbers of the legend: those of now, or those under the cursor. */
  #read(time) {
    if (this.past) return this.#readPast(time);
    for (const each of this.series) {
      let value = this.#last(each);
      if (this.#cursor !== null) {
        const at = time - this.#cursor;
        const before = each.shown.filter(([t]) => t <= at + 1e-6).at(-1);
        value = before ? before[1] : null;
      }
      say(each.text, value === null ? "gap" : format(value, each.how));
    }
    say(this.when, this.#cursor === null ? "" : `${Math.round(this.#cursor)} s ago`);
  }

  #readPast(time) {
    const at = this.#cursor === null ? null : time - this.#cursor;
    for (const { found: { low, high, gaps }, how, text } of this.series) {
      const n = at === null ? -1 : Math.min(low.length - 1, Math.floor((at - this.past.from) / this.past.step));
      const good = (values) => (n < 0 ? values.filter((v) => v !== null) : values[n] === null ? [] : [values[n]]);
      const [least, greatest] = [good(low).reduce((a, b) => Math.min(a, b), Infinity), good(high).reduce((a, b) => Math.max(a, b), -Infinity)];
      if (least > greatest) say(text, "gap");
      else say(text, (format(least, how) === format(greatest, how) ? format(least, how) : `${format(least, how)} to ${format(greatest, how)}`) + (gaps.includes(n) ? ", gap" : ""));
    }
    say(this.when, at === null ? "RECORDING" : `RECORDING, ${moment(this.past, at, 1)}${this.past.start === null ? "" : " UTC"}`);
  }

  #colours() {
    const style = getComputedStyle(document.documentElement);
    const read = (name) => style.getPropertyValue(name).trim();
    return {
      text: read("--text"), muted: read("--muted"), grid: read("--line"), dashed: read("--dashed") === "yes",
      series: [0, 1, 2, 3, 4, 5].map((n) => read(`--s${n}`)),
    };
  }
}

function line(draw, x1, y1, x2, y2) {
  draw.beginPath();
  draw.moveTo(x1, y1);
  draw.lineTo(x2, y2);
  draw.stroke();
}
