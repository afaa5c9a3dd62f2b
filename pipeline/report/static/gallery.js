/* The gallery: cards of one page, painted when they come into view. */

const grid = document.getElementById("grid");
let shown = matching();
const painters = new Map();
const LEGEND = 14;

const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    watcher.unobserve(entry.target);
    painters.get(entry.target)?.();
  }
}, { rootMargin: "400px" });

function plural(count, word) {
  return `${number.format(count)} ${word}${count === 1 ? "" : "s"}`;
}

function describe(item) {
  if (item.code) return `${item.file}: ${item.status}, ${item.code}`;
  return `${item.file}: ${item.status === "empty" ? "nothing found" : plural(item.objects, "segment")}`;
}

function card(item, place) {
  const thumb = html("span", { class: "thumb" });
  const count = html("span", { class: "count" });
  const low = html("span", { class: "low" });
  const button = html("button", { class: "card", type: "button", title: item.file },
    thumb,
    html("span", { class: "caption" },
      html("span", {}, html("bdi", { class: "name" }, item.name), count),
      html("span", {}, html("bdi", { class: "folder" }, item.folder || "\u00a0"), low)));
  const cell = html("li", { class: "cell" }, button);
  cell.dataset.status = item.status;
  const aspect = item.width ? Math.min(2.6, Math.max(0.5, item.width / item.height)) : 1.45;
  cell.style.setProperty("--aspect", aspect.toFixed(4));
  button.onclick = () => openViewer(place);
  if (item.index < 0) {
    thumb.classList.add("blank", item.status);
    thumb.append(html("code", {}, item.code), html("bdi", {}, html("span", {}, item.message)));
    return cell;
  }
  if (item.objects) count.append(number.format(item.objects), html("span", { class: "unseen" }, item.objects === 1 ? " segment" : " segments"));
  count.title = plural(item.objects, "segment");
  if (item.lowest !== null) low.textContent = `score ≥ ${item.lowest.toFixed(2)}`;
  if (item.note) thumb.append(html("span", { class: "flag note" }, html("bdi", {}, item.note)));
  if (item.status === "empty") thumb.append(html("span", { class: "flag" }, "nothing found"));
  const canvas = html("canvas", { "aria-hidden": "true" });
  const paint = async () => {
    let data_;
    try { data_ = await thumbOf(item); } catch { thumb.append(html("span", { class: "flag" }, "in data/, not here")); return; }
    if (!canvas.isConnected) {
      if (data_.jpeg) thumb.append(html("img", { alt: "", decoding: "async", src: `data:image/jpeg;base64,${data_.jpeg}` }));
      thumb.append(canvas);
    }
    cell.repaint = () => {
      const map = segmentMap(data_.segments, data_.size, 4096);
      paintSegments(canvas, map, data_.segments.length, styleOf(data_.segments), 480);
    };
    cell.repaint();
  };
  painters.set(cell, paint);
  watcher.observe(cell);
  return cell;
}

/** Draws the masks of the cards again after a change of looks. */
function repaintCards() {
  for (const cell of grid.children) cell.repaint?.();
  drawLegend();
}

/** Which colour is which category on this page, the most frequent first. */
function drawLegend() {
  const counts = new Map();
  const first = (choice.page - 1) * PAGE;
  for (const { found } of shown.slice(first, first + PAGE)) {
    for (let i = 0; i < found.length; i += 3) counts.set(found[i], (counts.get(found[i]) ?? 0) + found[i + 1]);
  }
  const places = [...counts.keys()].filter((place) => !data.categories[place].background)
    .sort((a, b) => counts.get(b) - counts.get(a));
  const told = look.colour === "category" && look.overlay !== "off" ? places : [];
  const rows = told.slice(0, LEGEND).map((place) => {
    const { id, name, color } = data.categories[place];
    const chip = svg("svg", { class: "chip", viewBox: "0 0 12 12", "aria-hidden": "true" },
      svg("rect", { width: 12, height: 12, rx: 3, fill: color }));
    return html("li", {}, html("a", { href: "#gallery", "data-category": String(id) }, chip, html("bdi", {}, name)));
  });
  if (told.length > LEGEND) rows.push(html("li", {}, `and ${number.format(told.length - LEGEND)} more`));
  const legend = document.getElementById("legend");
  legend.replaceChildren(...rows);
  legend.hidden = !rows.length;
}

function drawPager(pages) {
  const pager = document.getElementById("pager");
  pager.replaceChildren();
  if (pages < 2) return;
  const go = (page) => { choice.page = page; update({ keepPage: true }); document.getElementById("gallery").scrollIntoView(); };
  const button = (label, page, words) => {
    const node = html("button", { type: "button", "aria-label": words, disabled: page < 1 || page > pages }, label);
    node.onclick = () => go(page);
    return node;
  };
  pager.append(button("‹", choice.page - 1, "Previous page"));
  let last = 0;
  for (let page = 1; page <= pages; page++) {
    if (page > 1 && page < pages && Math.abs(page - choice.page) > 2) continue;
    if (page - last > 1) pager.append(html("span", {}, "…"));
    const node = button(number.format(page), page, `Page ${page}`);
    if (page === choice.page) node.setAttribute("aria-current", "page");
    pager.append(node);
    last = page;
  }
  pager.append(button("›", choice.page + 1, "Next page"));
}

function drawGallery() {
  const pages = Math.max(1, Math.ceil(shown.length / PAGE));
  choice.page = Math.min(Math.max(1, choice.page), pages);
  const first = (choice.page - 1) * PAGE;
  const cards = shown.slice(first, first + PAGE);
  watcher.disconnect();
  painters.clear();
  grid.replaceChildren(...cards.map((item, i) => card(item, first + i)));
  if (!cards.length) {
    grid.append(html("li", { class: "nothing" }, items.length ? "No picture matches these filters." : "This dataset holds no images."));
  }
  drawPager(pages);
  drawLegend();
  const matches = document.getElementById("matches");
  const range = cards.length ? `${number.format(first + 1)}–${number.format(first + cards.length)} of ` : "";
  matches.textContent = `${range}${plural(shown.length, "picture")}`;
  const filtered = Object.keys(usual).some((key) => !["sort", "page"].includes(key) && choice[key] !== usual[key]);
  if (filtered) {
    const clear = html("button", { type: "button" }, "clear filters");
    clear.onclick = () => { Object.assign(choice, usual, { sort: choice.sort }); update(); };
    matches.append(clear);
  }
}
