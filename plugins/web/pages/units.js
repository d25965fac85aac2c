// The units that this browser's user prefers. Values are converted on the page only; the gateway keeps its own.

let table = { quantities: {}, systems: {}, conversions: {} };
let differences = /$^/;
let chosen = read();

function read() {
  try {
    return JSON.parse(localStorage.getItem("units")) ?? {};
  } catch {
    return {};
  }
}

/** `facts` come from the gateway with the definitions. */
export function learn(facts) {
  table = facts;
  differences = new RegExp(facts.differences);
}

export const quantities = () => table.quantities;
export const systems = () => table.systems;
export const choice = (quantity) => chosen[quantity] ?? "";

export function choose(quantity, unit) {
  chosen = { ...chosen, [quantity]: unit };
  if (!unit) delete chosen[quantity];
  localStorage.setItem("units", JSON.stringify(chosen));
}

export function chooseSystem(name) {
  chosen = {};
  for (const unit of table.systems[name] ?? []) {
    for (const [quantity, units] of Object.entries(table.quantities)) if (units.includes(unit)) chosen[quantity] = unit;
  }
  localStorage.setItem("units", JSON.stringify(chosen));
}

/** How to show an item: `{units, decimals, factor, summand}`. */
export function showing(item) {
  const { quantity, to } = table.conversions[item.units] ?? {};
  const wanted = quantity && chosen[quantity];
  const numbers = wanted && to[wanted];
  if (!numbers) return { units: item.units, decimals: item.decimals, factor: 1, summand: 0 };
  const [units, factor, summand] = numbers;
  const decimals = item.decimals === null || item.decimals === undefined ? item.decimals
    : Math.min(9, Math.max(0, item.decimals - Math.trunc(Math.log10(factor))));
  return { units, decimals, factor, summand: differences.test(item.key) ? 0 : summand };
}

const NAMES = {
  degC: "°C", degF: "°F", deg: "°", "deg/s": "°/s", knots: "kt", "degC/min": "°C/min", "degF/min": "°F/min",
  fraction: "", level: "", pulses: "",
};

/** A unit as people write it. */
export const written = (units) => NAMES[units] ?? units ?? "";

/** A value for people, without units. `how` is what `showing` returned. */
export function format(value, how) {
  if (value === null || value === undefined) return "—";
  if (value === true) return "True";
  if (value === false) return "False";
  if (typeof value === "string") return value === "" ? "(empty)" : value;
  let number = value;
  if (how.factor !== 1 || how.summand !== 0) number = value * how.factor + how.summand;
  if (!Number.isFinite(number)) return "—";
  if (Math.abs(number) >= 1e12) return number.toPrecision(6);
  let decimals = how.decimals;
  if (decimals === null || decimals === undefined) {
    if (Number.isInteger(value) && how.factor === 1) decimals = 0;
    else decimals = Math.abs(number) >= 1000 ? 0 : Math.abs(number) >= 100 ? 1 : Math.abs(number) >= 1 ? 2 : 3;
  }
  const text = number.toFixed(decimals);
  return /^-[0.]+$/.test(text) ? text.slice(1) : text;
}

/** The number that is shown for a value: for scales and charts. */
export const converted = (value, how) => value * how.factor + how.summand;

/** The gateway's number for one that was entered. */
export const entered = (number, how) => (number - how.summand) / how.factor;
