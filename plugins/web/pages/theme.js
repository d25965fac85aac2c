// The colours: day, dark or night; automatic follows the computer's own choice. Listeners hear "theme" on the window.

export const THEMES = ["auto", "day", "dark", "night"];

const prefersDark = matchMedia("(prefers-color-scheme: dark)");
let shown = chosen();

export function chosen() {
  const stored = localStorage.getItem("theme");
  return THEMES.includes(stored) ? stored : "auto";
}

/** Show a theme and remember it. */
export function choose(name) {
  if (name === "night" && chosen() !== "night") localStorage.setItem("before-night", chosen());
  localStorage.setItem("theme", name);
  show(name);
}

export const isNight = () => shown === "night";
export const toggleNight = () => choose(isNight() ? localStorage.getItem("before-night") ?? "auto" : "night");
export const brightness = () => Number(localStorage.getItem("brightness") ?? 100);

export function dim(percent) {
  localStorage.setItem("brightness", String(percent));
  show(shown);
}

/** Show a theme in this window only. */
export function show(name) {
  shown = name;
  const { dataset, style } = document.documentElement;
  dataset.theme = name === "auto" ? (prefersDark.matches ? "dark" : "day") : name;
  style.filter = name === "night" && brightness() < 100 ? `brightness(${brightness()}%)` : "";
  dispatchEvent(new Event("theme"));
}

prefersDark.addEventListener("change", () => show(shown));
