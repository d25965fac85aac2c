// A tone for alarms that nobody has acknowledged, if this browser's user has switched it on.

const EVERY_MS = { warning: 3000, caution: 10000 };

let context = null;
let last = -Infinity;
let wanted = [];

export const audible = () => localStorage.getItem("sound") === "on";

/** Browsers let a page sound only after the user has touched it: call this from a click. */
export function setAudible(on) {
  localStorage.setItem("sound", on ? "on" : "off");
  if (!on) return;
  context ??= new AudioContext();
  context.resume();
  beep("caution");
}

/** Whether a tone would be heard now. */
export const silent = () => audible() && context?.state !== "running";

/** `alarms`: those that want attention. */
export function sound(alarms) {
  wanted = alarms;
}

setInterval(() => {
  const level = ["warning", "caution"].find((each) => wanted.some((alarm) => alarm.level === each));
  if (!level || !audible() || performance.now() - last < EVERY_MS[level]) return;
  last = performance.now();
  beep(level);
}, 500);

// After a reload, the first touch makes sound possible again.
addEventListener("pointerdown", () => {
  if (!audible()) return;
  context ??= new AudioContext();
  context.resume();
}, { capture: true });

function beep(level) {
  if (context?.state !== "running") return;
  const tones = level === "warning" ? [880, 660, 880] : [660];
  tones.forEach((frequency, n) => {
    const start = context.currentTime + n * 0.18;
    const tone = new OscillatorNode(context, { frequency, type: "triangle" });
    const loudness = new GainNode(context, { gain: 0 });
    loudness.gain.setValueAtTime(0, start);
    loudness.gain.linearRampToValueAtTime(0.4, start + 0.02);
    loudness.gain.linearRampToValueAtTime(0, start + 0.15);
    tone.connect(loudness).connect(context.destination);
    tone.start(start);
    tone.stop(start + 0.16);
  });
}
