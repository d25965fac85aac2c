// The keys that this browser's user has pinned.

const pins = new Set(read());

function read() {
  try {
    return JSON.parse(localStorage.getItem("pins")) ?? [];
  } catch {
    return [];
  }
}

export const pinned = (key) => pins.has(key);
export const allPinned = () => [...pins];

/** Pin or unpin; returns whether the key is pinned now. */
export function togglePin(key) {
  if (!pins.delete(key)) pins.add(key);
  localStorage.setItem("pins", JSON.stringify([...pins]));
  return pins.has(key);
}
