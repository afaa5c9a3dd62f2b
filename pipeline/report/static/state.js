/* What the page knows and what the reader has chosen. The address holds the choice. */

const data = JSON.parse(document.getElementById("report-data").textContent);
const UNSCORED = 1 << 20;
const PAGE = 48;

const items = data.rows.map((row, index) => {
  const [id, file, status, width, height, objects, lowest, found, note] = row;
  return { index, id, file, status, width, height, objects, lowest, found, note };
});
for (const [id, file, status, code, message] of data.unlabelled) {
  items.push({ index: -1, id, file, status, code, message, objects: 0, lowest: null, found: [] });
}
for (const item of items) {
  const cut = item.file.lastIndexOf("/") + 1;
  item.folder = item.file.slice(0, cut);
  item.name = item.file.slice(cut);
}

const things = data.categories.filter((category) => !category.background);
const usual = { q: "", status: "all", category: 0, low: 0, high: 20, sort: "input", page: 1 };
const choice = { ...usual };
const look = {
  overlay: "fill",
  // One kind of object: telling neighbours apart is worth more than the category's colour.
  colour: things.length <= 1 ? "instance" : "category",
  opacity: 45,
};

function remember(key, value) {
  try { localStorage.setItem(`maskmill-${key}`, value); } catch { /* a file:// page may be denied */ }
}
function recall(key) {
  try { return localStorage.getItem(`maskmill-${key}`); } catch { return null; }
}

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (![...given.keys()].some((key) => key in usual || key === "image")) return null;
  for (const [key, value] of Object.entries(usual)) {
    const text = given.get(key);
    choice[key] = text === null ? value : typeof value === "number" ? Number(text) || 0 : text;
  }
  return given.get("image");
}

function writeAddress(image) {
  const now = new URLSearchParams();
  for (const [key, value] of Object.entries(usual)) if (choice[key] !== value) now.set(key, choice[key]);
  if (image) now.set("image", image);
  const hash = now.size ? `#${now}` : location.pathname + location.search;
  try { history.replaceState(null, "", hash); } catch { /* some viewers of local files forbid it */ }
}

const scoreChosen = () => choice.low > 0 || choice.high < 20;

/** Whether one segment is what the reader asked for. */
function segmentMatches(category, score) {
  if (choice.category && data.categories[category].id !== choice.category) return false;
  if (!scoreChosen()) return true;
  return score !== null && score >= choice.low / 20 - 1e-4 && score <= choice.high / 20 + 1e-4;
}

function matching() {
  const query = choice.q.trim().toLowerCase();
  const bits = ((1 << choice.high) - 1) & ~((1 << choice.low) - 1);
  const bySegment = choice.category || scoreChosen();
  const mask = scoreChosen() ? bits : bits | UNSCORED;
  const found = items.filter((item) => {
    if (choice.status !== "all" && item.status !== choice.status) return false;
    if (query && !item.file.toLowerCase().includes(query)) return false;
    if (!bySegment) return true;
    for (let i = 0; i < item.found.length; i += 3) {
      const category = data.categories[item.found[i]];
      if (choice.category ? category.id !== choice.category : category.background) continue;
      if (item.found[i + 2] & mask) return true;
    }
    return false;
  });
  const by = {
    name: (a, b) => (a.file < b.file ? -1 : a.file > b.file ? 1 : 0),
    score: (a, b) => (a.lowest ?? 2) - (b.lowest ?? 2),
    most: (a, b) => b.objects - a.objects,
    fewest: (a, b) => a.objects - b.objects,
  }[choice.sort];
  return by ? found.sort(by) : found;
}

/* Side files are scripts that call this; a page opened from disk may not fetch. */
const waiting = new Map();
globalThis.maskmillLoad = (key, value) => waiting.get(key)?.resolve(value);

/** Loads a side file once; rejects where it is not there, as when only index.html was sent. */
function load(key, path) {
  if (!waiting.has(key)) {
    let resolve, reject;
    const promise = new Promise((yes, no) => { resolve = yes; reject = no; });
    waiting.set(key, { promise, resolve });
    const script = document.createElement("script");
    script.src = path;
    script.onload = () => { reject(new Error("empty")); script.remove(); };
    script.onerror = () => { reject(new Error("missing")); script.remove(); };
    document.head.append(script);
  }
  return waiting.get(key).promise;
}

const chunks = new Map();

/** The thumbnail of an item: {size, segments, jpeg?}. */
async function thumbOf(item) {
  const chunk = Math.floor(item.index / data.chunk);
  if (!chunks.has(chunk)) {
    const embedded = document.getElementById(`thumbs-${chunk}`);
    chunks.set(chunk, embedded
      ? Promise.resolve(JSON.parse(embedded.textContent))
      : load(`thumbs/${chunk}`, `data/thumbs-${String(chunk).padStart(4, "0")}.js`));
  }
  return (await chunks.get(chunk))[item.index % data.chunk];
}

/** How each segment looks now; `on` is the index under the pointer or −1. */
function styleOf(segments, on = -1) {
  if (look.overlay === "off") return () => null;
  const alpha = look.overlay === "fill" ? look.opacity / 100 : 0;
  return (index) => {
    const [id, place, score] = segments[index];
    const category = data.categories[place];
    const chosen = segmentMatches(place, score);
    if (category.background && choice.category !== category.id) return null;
    const rgb = look.colour === "category" ? rgbOf(category.color) : instanceColour(id);
    if (!chosen) return { rgb: [128, 132, 140], fill: alpha * 0.25, line: 0.3 };
    // A table's colour may be that of the thing itself, a grey car: the outline then tells them apart.
    const edge = look.colour === "category" && alpha ? contrary(rgb) : rgb;
    if (index === on) return { rgb, edge, fill: Math.min(1, alpha + 0.25), line: 1 };
    return { rgb, edge, fill: on >= 0 ? alpha * 0.6 : alpha, line: on >= 0 ? 0.55 : 0.95 };
  };
}
