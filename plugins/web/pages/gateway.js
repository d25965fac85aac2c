// The link to the gateway: the stream of values, and the questions over HTTP.
//
// Nothing may look current when it is not. The gateway sends a message every tick even when nothing has changed, so
// silence is noticed here by the browser's own monotonic clock, and whoever shows values hears "link".

import { confirmed } from "./dom.js";
import { learn } from "./units.js";

export const ANNUNCIATE = 1, OLD = 2, BAD = 4, FAIL = 8, SECFAIL = 16;
export const UNUSABLE = OLD | BAD | FAIL;

const SILENCE_MS = 1000; // without a message the link is lost
const LOOK_MS = 250;
const RECONNECT_MS = 1000;
const GIVE_UP_MS = 5000; // a silent connection is replaced by a new one
const OLD_VERDICT_MS = 5000; // it comes each second, unless whoever collects it hangs

const API = "api/v1/";

export class Refused extends Error {
  constructor(status, answer) {
    super(answer?.error ?? `the gateway answered ${status}`);
    this.status = status;
    this.answer = answer ?? {};
  }
}

class Gateway {
  items = new Map(); // key -> definition
  readings = new Map(); // key -> {value, flags, source, age, at}
  counts = new Map(); // key -> messages with it since the count began
  sources = [];
  hello = null;
  verdict = null; // once a second: {health, summary, uptime, simulated, replayed, overridden}
  status = null; // the status tree, while a page wants it
  alarms = null; // until the gateway has said which there are
  state = "waiting"; // waiting | live | lost | unpaired
  #listeners = new Map();
  #socket = null;
  #heard = -Infinity;
  #opened = -Infinity;
  #wanted = {};
  #judged = -Infinity; // when the last verdict came
  #dirty = new Set();
  #drawing = false;
  #offset = Infinity; // the least difference between our clock and the gateway's when a message came

  on(event, listener) {
    const listeners = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  #tell(event, ...facts) {
    for (const listener of this.#listeners.get(event) ?? []) {
      try {
        listener(...facts);
      } catch (error) {
        console.error(error); // one page's mistake must not stop the link
      }
    }
  }

  start() {
    setInterval(() => this.#look(), LOOK_MS);
    // A tablet that wakes up has old messages waiting: a new connection has none.
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") this.#connect();
      else this.#lose();
    });
    addEventListener("pageshow", (event) => event.persisted && this.#connect());
    addEventListener("online", () => this.#connect());
    this.#connect();
  }

  /** What the page wants to hear: keys or "*", how often a second, the status tree, the log. */
  subscribe({ keys = [], rate = 10, status = false, log = false }) {
    this.#wanted = { keys, rate, status, log };
    this.#forget(); // what the page before had is renewed no longer; all that is wanted now comes again
    this.#send(this.#wanted);
  }

  #forget() {
    this.readings.clear();
    this.#dirty.clear();
    this.status = null;
  }

  #send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #connect() {
    const before = this.#socket;
    if (before) {
      before.onopen = before.onmessage = before.onclose = null;
      before.close();
    }
    this.#lose();
    this.#opened = performance.now();
    const address = new URL(`${API}stream`, location.href.split("#")[0]);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    const socket = (this.#socket = new WebSocket(address));
    socket.onopen = () => {
      this.#opened = performance.now();
      this.#send(this.#wanted);
    };
    socket.onmessage = (event) => this.#message(event.data);
    socket.onclose = () => {
      this.#lose();
      this.#socket = null;
      this.#whyNot();
    };
  }

  /** A browser does not say why a WebSocket was refused, but a request does. */
  async #whyNot() {
    try {
      await this.get("status");
    } catch (error) {
      if (error.status === 401 || error.status === 403) this.#become("unpaired");
    }
  }

  #look() {
    const now = performance.now();
    if (this.state === "live" && now - this.#heard > SILENCE_MS) this.#lose();
    if (this.state === "live" && now - this.#judged > OLD_VERDICT_MS) {
      this.#judged = now;
      this.#tell("verdict", (this.verdict = null));
    }
    if (document.visibilityState !== "visible") return;
    const since = now - Math.max(this.#heard, this.#opened);
    if (this.#socket ? since > GIVE_UP_MS : since > RECONNECT_MS) this.#connect();
  }

  #lose() {
    if (this.state !== "unpaired") this.#become(this.hello ? "lost" : "waiting");
  }

  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.#tell("link", state);
  }

  #message(text) {
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return;
    }
    const now = performance.now();
    if (message.hello) {
      this.hello = message.hello;
      this.#forget();
      this.alarms = null;
      this.sources = [];
      this.#offset = Infinity;
      this.#judged = now;
      this.#tell("hello", message.hello);
      this.#loadItems(message.hello.items);
    }
    if (message.sources) this.sources = message.sources;
    if (message.alarms) this.alarms = message.alarms;
    if (message.v) this.#values(message, now);
    if (message.verdict && this.state === "live") {
      this.#judged = now;
      this.#tell("verdict", (this.verdict = message.verdict));
    }
    if (message.status) this.#tell("status", (this.status = message.status));
    if (message.alarms) this.#tell("alarms", this.alarms);
    if (message.log) this.#tell("log", message.log);
    if (message.items !== undefined) this.#loadItems(message.items);
  }

  #values(message, now) {
    let delay = 0;
    if (message.t !== undefined) {
      // How much later than the fastest message this one came. The bound creeps up, as clocks differ a little.
      const difference = now / 1000 - message.t;
      this.#offset = Math.min(this.#offset + 0.0001, difference);
      delay = difference - this.#offset;
    }
    for (const [key, [value, flags, source, age]] of Object.entries(message.v)) {
      this.readings.set(key, { value, flags, source, age: age === null ? null : age + delay, at: now });
      this.counts.set(key, (this.counts.get(key) ?? 0) + 1);
      this.#dirty.add(key);
    }
    if (delay * 1000 > SILENCE_MS) return; // a backlog is no sign of life, but none of it is sent again
    this.#heard = now;
    this.#become("live");
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => {
      this.#drawing = false;
      this.#tell("tick");
      if (this.state !== "live") return; // they are told when it is
      const dirty = this.#dirty;
      this.#dirty = new Set();
      this.#tell("values", dirty);
    });
  }

  async #loadItems(revision) {
    if (revision !== undefined && revision === this.revision) return;
    try {
      const answer = await this.get("items");
      learn(answer.units);
      this.items = new Map(Object.entries(answer.items).map(([key, item]) => [key, { key, ...item }]));
      this.revision = answer.revision;
      this.#tell("items", this.items);
    } catch (error) {
      console.warn("no definitions:", error.message);
    }
  }

  /** Seconds since the value was stored; null if none ever was. */
  age(reading, now = performance.now()) {
    return reading.age === null ? null : reading.age + (now - reading.at) / 1000;
  }

  sourceOf(reading) {
    return this.sources[reading.source] ?? "";
  }

  may(role) {
    return Boolean(this.hello?.permissions?.includes(role));
  }

  get = (path) => this.ask("GET", path);

  /** Ask over HTTP. Raises `Refused` with the gateway's words. */
  async ask(method, path, body) {
    const response = await fetch(API + path, {
      method,
      headers: method === "GET" ? {} : { "Content-Type": "application/json" },
      body: method === "GET" ? undefined : JSON.stringify(body ?? {}),
    });
    const answer = await response.json().catch(() => null);
    if (!response.ok) throw new Refused(response.status, answer);
    return answer;
  }

  /** The same for what changes something: in flight, the user has to confirm it. */
  async act(method, path, body = {}) {
    try {
      return await this.ask(method, path, body);
    } catch (error) {
      if (error.answer?.code !== "in-flight" || !(await confirmed(error.message))) throw error;
      return this.ask(method, path, { ...body, force: true });
    }
  }

  /** Begin anew, after pairing. */
  reconnect() {
    this.state = "waiting";
    this.#connect();
  }
}

export const gateway = new Gateway();

/** The state of a reading: a word and a sign for people, a level for the style. */
export function condition(reading) {
  if (!reading || (reading.age === null && reading.flags & OLD && !(reading.flags & FAIL))) {
    return { word: "no value yet", sign: "○", level: "none" };
  }
  const { flags } = reading;
  if (!flags) return { word: "good", sign: "✓", level: "good" };
  const words = [];
  if (flags & FAIL) words.push("FAILED");
  if (flags & OLD) words.push("OLD");
  if (flags & BAD) words.push("BAD");
  if (flags & ANNUNCIATE) words.push("alert");
  if (flags & SECFAIL) words.push("no backup");
  const level = flags & FAIL ? "fail" : flags & OLD ? "old" : flags & BAD ? "bad" : "note";
  return { word: words.join(", "), sign: { fail: "✕", old: "◷", bad: "⚠", note: "●" }[level], level };
}

export const usable = (reading) => Boolean(reading) && reading.value !== null && !(reading.flags & UNUSABLE);

/** Whether a key needs attention: flagged, unless it never had a value and all connections that may feed it are well. */
export function unwell(item, reading) {
  if (!reading?.flags) return false;
  const health = (name) => gateway.status?.connections[name]?.health ?? "ok";
  return reading.age !== null || Boolean(reading.flags & FAIL) || Boolean(item.feeders?.some((name) => health(name) !== "ok"));
}

/** Whether connections that are well may feed a key, but none ever has. */
export const silent = (item, reading) => Boolean(item.feeders?.length && reading?.age === null && !unwell(item, reading));

/** Where a value is not from: "SIMULATED", "REPLAY", "OVERRIDE", or empty for a real one. */
export function mark(source) {
  if (source.startsWith("sim/")) return "SIMULATED";
  if (source.startsWith("replay/")) return "REPLAY";
  return source.startsWith("override/") ? "OVERRIDE" : "";
}

/** Whether an alarm has not been acknowledged. */
export const wantsAttention = (alarm) => alarm.state === "active" || alarm.state === "latched";
