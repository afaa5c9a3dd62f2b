/* Controls, and the first drawing. */

const byId = (id) => document.getElementById(id);
const STATUS_WORDS = { all: "All", ok: "OK", empty: "Empty", failed: "Failed", skipped: "Skipped" };
let redrawScores = () => {};

/** Brings everything that follows from the choice up to date. */
function update({ keepPage = false } = {}) {
  if (!keepPage) choice.page = 1;
  shown = matching();
  drawControls();
  drawGallery();
  redrawScores();
  writeAddress();
}

function drawControls() {
  const counts = { all: items.length };
  for (const item of items) counts[item.status] = (counts[item.status] ?? 0) + 1;
  segmented(byId("status"), Object.keys(STATUS_WORDS).filter((key) => counts[key]).map((key) => [key, STATUS_WORDS[key], number.format(counts[key])]),
    choice.status, (value) => { choice.status = value; update(); });
  if (byId("search").value !== choice.q) byId("search").value = choice.q;
  byId("category").value = String(choice.category);
  byId("sort").value = choice.sort;
  byId("score-low").value = choice.low;
  byId("score-high").value = choice.high;
  byId("score-value").textContent = scoreChosen() ? `${(choice.low / 20).toFixed(2)}–${(choice.high / 20).toFixed(2)}` : "any";
  const range = document.querySelector(".range").style;
  range.setProperty("--from", `${choice.low * 5}%`);
  range.setProperty("--to", `${100 - choice.high * 5}%`);
  drawLooks();
}

function drawLooks() {
  for (const prefix of ["", "viewer-"]) {
    segmented(byId(`${prefix}overlay`), [["fill", "Fill"], ["outline", "Outline"], ["off", "Off"]], look.overlay, (value) => setLook({ overlay: value }));
    segmented(byId(`${prefix}colour`), [["category", "Category"], ["instance", "Instance"]], look.colour, (value) => setLook({ colour: value }));
  }
  byId("opacity").value = look.opacity;
}

function setLook(change) {
  Object.assign(look, change);
  drawLooks();
  repaintCards();
  if (viewer.open && open.map) { paintMasks(); drawList(); }
}

const used = new Set(items.flatMap((item) => item.found.filter((_, i) => i % 3 === 0)));
byId("category").append(html("option", { value: "0" }, "Any category"),
  ...data.categories.filter((_, place) => used.has(place)).map((category) => html("option", { value: String(category.id) }, category.name)));
byId("score-group").hidden = !data.histograms.score.spread;

byId("filters").onsubmit = (event) => event.preventDefault();
byId("search").oninput = (event) => { choice.q = event.target.value; update(); };
byId("category").onchange = (event) => { choice.category = Number(event.target.value); update(); };
byId("sort").onchange = (event) => { choice.sort = event.target.value; update(); };
byId("score-low").oninput = (event) => { choice.low = Math.min(Number(event.target.value), choice.high - 1); update(); };
byId("score-high").oninput = (event) => { choice.high = Math.max(Number(event.target.value), choice.low + 1); update(); };
byId("opacity").oninput = (event) => setLook({ opacity: Number(event.target.value) });

document.addEventListener("click", (event) => {
  const link = event.target.closest("[data-status], [data-category], [data-search]");
  if (link?.matches("a")) {
    event.preventDefault();
    Object.assign(choice, usual, { sort: choice.sort });
    if (link.dataset.status) choice.status = link.dataset.status;
    if (link.dataset.search) choice.q = link.dataset.search;
    if (link.dataset.category) choice.category = Number(link.dataset.category);
    update();
    byId("gallery").scrollIntoView();
  }
  const inside = event.target.closest('nav[aria-label="Sections"] a, .brand, .skip');
  if (inside) { // the address belongs to the filters
    event.preventDefault();
    document.querySelector(inside.getAttribute("href")).scrollIntoView();
    if (inside.matches(".skip")) grid.querySelector("button")?.focus();
  }
});

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  const modes = ["fill", "outline", "off"];
  if (event.key === "o") setLook({ overlay: modes[(modes.indexOf(look.overlay) + 1) % 3] });
  if (event.key === "c") setLook({ colour: look.colour === "category" ? "instance" : "category" });
  if (event.key === "/" && !viewer.open) { event.preventDefault(); byId("search").focus(); }
});

const more = byId("more-categories");
if (more) more.onclick = () => { for (const row of document.querySelectorAll("tr.more")) row.hidden = false; more.remove(); };

for (const button of document.querySelectorAll(".copy")) {
  button.onclick = async () => {
    const text = button.parentElement.querySelector("pre").textContent;
    try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; }
    catch { getSelection().selectAllChildren(button.parentElement.querySelector("pre")); button.textContent = "Press Ctrl+C"; }
    setTimeout(() => { button.textContent = "Copy"; }, 1600);
  };
}

/* Light, dark, or as the system: CSS's light-dark() follows color-scheme. */
const themes = ["auto", "light", "dark"];
function setTheme(theme) {
  document.documentElement.style.colorScheme = theme === "auto" ? "" : theme;
  byId("theme").querySelector("span").textContent = theme[0].toUpperCase() + theme.slice(1);
  byId("theme").title = `Colours: ${theme === "auto" ? "as the system" : theme}`;
  byId("theme").dataset.theme = theme;
}
byId("theme").onclick = () => {
  const next = themes[(themes.indexOf(byId("theme").dataset.theme) + 1) % 3];
  remember("theme", next);
  setTheme(next);
};
setTheme(themes.includes(recall("theme")) ? recall("theme") : "auto");

const { area, score, objects } = data.histograms;
histogram(byId("chart-area"), { series: { log: area.log, linear: area.linear }, spread: area.spread, integer: true, none: "no segments" });
redrawScores = histogram(byId("chart-score"), {
  series: { linear: score.linear }, spread: score.spread, none: "this model gives no scores",
  pick: (bin) => {
    const same = choice.low === bin && choice.high === bin + 1;
    Object.assign(choice, same ? { low: 0, high: 20 } : { low: bin, high: bin + 1 });
    update();
  },
  picked: () => (scoreChosen() ? [choice.low, choice.high] : null),
});
histogram(byId("chart-objects"), { series: { linear: objects.linear }, spread: objects.spread, integer: true, none: "no images" });

/* A table that scrolls in its box is reached by keys, too. */
function reachTables() {
  for (const box of document.querySelectorAll(".table-box")) {
    const scrolls = box.scrollHeight > box.clientHeight || box.scrollWidth > box.clientWidth;
    if (scrolls) box.tabIndex = 0; else box.removeAttribute("tabindex");
  }
}
document.addEventListener("toggle", reachTables, true);
addEventListener("resize", reachTables);
reachTables();

const asked = readAddress();
update({ keepPage: true });
if (asked) {
  const place = shown.findIndex((item) => String(item.id) === asked);
  if (place >= 0) openViewer(place);
}
document.documentElement.dataset.ready = "true";
performance.mark("maskmill-ready");
