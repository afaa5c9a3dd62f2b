/* One picture, large: masks, hover, zoom, keys. */

const viewer = document.getElementById("viewer");
const stage = document.getElementById("stage");
const box = document.getElementById("canvas-box");
const picture = document.getElementById("viewer-picture");
const maskCanvas = document.getElementById("viewer-masks");
const noteLine = document.getElementById("viewer-note");
const LISTED = 300;

const open = { place: -1, item: null, segments: [], size: [1, 1], map: null, on: -1, pinned: -1 };
const view = { scale: 1, fit: 1, x: 0, y: 0 };

function openViewer(place) {
  if (!viewer.open) viewer.showModal();
  show(place);
}

async function show(place) {
  const item = shown[place];
  if (!item) return;
  Object.assign(open, { place, item, segments: [], map: null, on: -1, pinned: -1 });
  hideTip();
  document.getElementById("viewer-name").replaceChildren(html("bdi", {}, item.name));
  document.getElementById("viewer-folder").replaceChildren(
    html("bdi", {}, item.folder), item.folder ? " · " : "", `${number.format(place + 1)} of ${number.format(shown.length)}`);
  document.getElementById("viewer-prev").disabled = place === 0;
  document.getElementById("viewer-next").disabled = place === shown.length - 1;
  picture.removeAttribute("src");
  picture.alt = describe(item);
  maskCanvas.width = maskCanvas.height = 0;
  stage.querySelector(".blank")?.remove();
  noteLine.hidden = true;
  box.hidden = item.index < 0;
  writeAddress(item.id);
  if (item.index < 0) {
    stage.append(html("div", { class: "blank" }, html("code", {}, item.code), html("bdi", {}, item.message)));
    drawFacts({});
    drawList();
    return;
  }
  open.size = [item.height, item.width];
  fit();
  const still = () => open.item === item && viewer.open;
  let full = null;
  const small = thumbOf(item).catch(() => null);
  small.then((thumb) => {
    if (!still() || full || !thumb) return;
    if (thumb.jpeg) picture.src = `data:image/jpeg;base64,${thumb.jpeg}`;
    setSegments(thumb.segments, thumb.size);
  });
  drawFacts({});
  try {
    full = await load(`full/${item.id}`, `full/${item.id}.js`);
  } catch {
    await small;
    if (still()) note("Only the small picture is here: the folder full/ was not sent along.");
    return;
  }
  if (!still()) return;
  if (full.picture) {
    const large = new Image();
    large.onload = () => { if (still()) picture.src = large.src; };
    large.onerror = () => { if (still()) note("The large picture is missing; this is the small one."); };
    large.src = `full/${item.id}.jpg`;
  } else {
    note("The picture is gone or has changed since: masks on a plain ground.");
  }
  drawFacts(full);
  setSegments(full.segments, full.size);
  const next = shown[place + 1];
  if (next && next.index >= 0) thumbOf(next).catch(() => null);
}

function note(text) {
  noteLine.textContent = text;
  noteLine.hidden = false;
}

function setSegments(segments, size) {
  open.segments = segments;
  open.map = segmentMap(segments, size, 1600);
  paintMasks();
  drawList();
}

function paintMasks() {
  if (!open.map) return;
  const target = Math.min(2400, Math.max(box.clientWidth, box.clientHeight) * devicePixelRatio);
  const on = open.on >= 0 ? open.on : open.pinned;
  paintSegments(maskCanvas, open.map, open.segments.length, styleOf(open.segments, on), target);
}

function drawFacts(full) {
  const { item } = open;
  const facts = [
    ["Status", item.status === "empty" ? "nothing found" : item.status],
    ["Size", item.width ? `${number.format(item.width)} × ${number.format(item.height)}` : null],
    ["Format", full.format],
    ["File", full.bytes ? `${number.format(Math.ceil(full.bytes / 1024))} KiB` : null],
    ["EXIF orientation", full.orientation > 1 ? `${full.orientation}, applied` : null],
    ["Note", full.note],
    ["Image id", String(item.id)],
  ];
  document.getElementById("viewer-facts").replaceChildren(
    ...facts.filter(([, value]) => value).map(([key, value]) =>
      html("div", {}, html("dt", {}, key), html("dd", {}, html("bdi", {}, value)))));
}

function chipOf(segment) {
  const category = data.categories[segment[1]];
  const colour = look.colour === "category" || category.background ? category.color : `rgb(${instanceColour(segment[0])})`;
  return svg("svg", { class: "chip", viewBox: "0 0 12 12", "aria-hidden": "true" },
    svg("rect", { width: 12, height: 12, rx: 3, fill: colour }));
}

function drawList() {
  const { segments } = open;
  document.getElementById("viewer-count").textContent = open.item.index < 0 ? "" : plural(segments.length, "segment");
  const background = (index) => data.categories[segments[index][1]].background;
  const order = [...segments.keys()].sort((a, b) => background(a) - background(b) || a - b);
  const rows = order.slice(0, LISTED).map((index) => {
    const segment = segments[index];
    const [id, place, score, area, , , prompt] = segment;
    const button = html("button", { type: "button" }, chipOf(segment),
      html("span", { class: "what" }, html("bdi", {}, data.categories[place].name), html("small", {}, ` ${prompt ? `“${prompt}”` : `#${id}`}`)),
      html("span", { class: "num" }, score === null ? "–" : score.toFixed(3)),
      html("span", { class: "num" }, `${short(area)} px`));
    if (!segmentMatches(place, score)) button.classList.add("faint");
    button.dataset.index = index;
    button.onpointerenter = () => highlight(index);
    button.onpointerleave = () => highlight(-1);
    button.onfocus = () => highlight(index);
    button.onblur = () => highlight(-1);
    button.onclick = () => { open.pinned = open.pinned === index ? -1 : index; markList(); paintMasks(); };
    return html("li", {}, button);
  });
  if (segments.length > LISTED) rows.push(html("li", {}, html("p", { class: "muted" }, `and ${number.format(segments.length - LISTED)} smaller ones`)));
  document.getElementById("viewer-segments").replaceChildren(...rows);
}

function markList(scroll = false) {
  for (const button of document.querySelectorAll("#viewer-segments button")) {
    const on = Number(button.dataset.index) === (open.on >= 0 ? open.on : open.pinned);
    button.classList.toggle("on", on);
    if (on && scroll) button.scrollIntoView({ block: "nearest" });
  }
}

function highlight(index, scroll) {
  if (index === open.on) return;
  open.on = index;
  markList(scroll);
  paintMasks();
}

/** Index of the segment under the pointer, or −1. */
function segmentAt(event) {
  if (!open.map) return -1;
  const area = box.getBoundingClientRect();
  const { width, height, labels } = open.map;
  const x = Math.floor(((event.clientX - area.left) / area.width) * width);
  const y = Math.floor(((event.clientY - area.top) / area.height) * height);
  if (x < 0 || y < 0 || x >= width || y >= height) return -1;
  const index = labels[x * height + y] - 1;
  const category = index >= 0 ? data.categories[open.segments[index][1]] : null;
  // Background is not painted, so it does not answer the pointer either.
  return category?.background && choice.category !== category.id ? -1 : index;
}

function point(event) {
  const index = segmentAt(event);
  highlight(index, true);
  if (index < 0) return hideTip();
  const [id, place, score, area, [x, y, w, h], , prompt] = open.segments[index];
  const share = (100 * area) / (open.item.width * open.item.height);
  showTip(event, html("b", {}, html("bdi", {}, data.categories[place].name)), ` #${id}`, html("br"),
    ...(prompt ? [html("span", {}, `“${prompt}”`), html("br")] : []),
    `${score === null ? "no score" : `score ${score.toFixed(3)}`} · ${number.format(area)} px (${share.toPrecision(2)} %)`, html("br"),
    html("span", { class: "muted" }, `x ${x}, y ${y}, ${w} × ${h}`));
}

function place_() {
  box.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
  box.classList.toggle("pixels", view.scale * view.fit > 3);
}

function fit() {
  const [height, width] = open.size;
  const room = [stage.clientWidth - 32, stage.clientHeight - 32];
  view.fit = Math.min(room[0] / width, room[1] / height, 16);
  box.style.width = `${width * view.fit}px`;
  box.style.height = `${height * view.fit}px`;
  view.scale = 1;
  view.x = (stage.clientWidth - width * view.fit) / 2;
  view.y = (stage.clientHeight - height * view.fit) / 2;
  place_();
}

/** Zooms about a point of the stage, which stays where it is. */
function zoom(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
  const scale = Math.min(24, Math.max(1, view.scale * factor));
  const real = scale / view.scale;
  view.x = x - (x - view.x) * real;
  view.y = y - (y - view.y) * real;
  view.scale = scale;
  if (scale === 1) fit();
  else place_();
}

stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  const area = stage.getBoundingClientRect();
  zoom(Math.exp(-event.deltaY / 400), event.clientX - area.left, event.clientY - area.top);
}, { passive: false });

let drag = null;
stage.onpointerdown = (event) => {
  if (event.target.closest("button")) return;
  drag = { x: event.clientX, y: event.clientY, moved: false };
  stage.setPointerCapture(event.pointerId);
};
stage.onpointermove = (event) => {
  if (!drag) return event.target.closest("button") ? hideTip() : point(event);
  const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
  if (!drag.moved && Math.hypot(dx, dy) < 4) return;
  drag.moved = true;
  stage.classList.add("drag");
  hideTip();
  view.x += dx;
  view.y += dy;
  Object.assign(drag, { x: event.clientX, y: event.clientY });
  place_();
};
stage.onpointerup = (event) => {
  stage.classList.remove("drag");
  if (drag && !drag.moved) {
    const index = segmentAt(event);
    open.pinned = index === open.pinned ? -1 : index;
    point(event);
    paintMasks();
    markList(true);
  }
  drag = null;
};
stage.onpointerleave = () => { hideTip(); highlight(-1); };
stage.ondblclick = () => fit();

const step = (by) => { if (shown[open.place + by]) show(open.place + by); };
document.getElementById("viewer-prev").onclick = () => step(-1);
document.getElementById("viewer-next").onclick = () => step(1);
document.getElementById("viewer-close").onclick = () => viewer.close();
viewer.addEventListener("close", () => {
  hideTip();
  document.body.append(tip);
  writeAddress();
  const page = Math.floor(open.place / PAGE) + 1;
  if (page !== choice.page) { choice.page = page; update({ keepPage: true }); }
  grid.children[open.place % PAGE]?.querySelector("button")?.focus();
});
viewer.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
  const action = {
    ArrowLeft: () => step(-1), ArrowRight: () => step(1),
    "+": () => zoom(1.4), "=": () => zoom(1.4), "-": () => zoom(1 / 1.4), 0: fit,
  }[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});
addEventListener("resize", () => { if (viewer.open && open.item?.index >= 0) { fit(); paintMasks(); } });
