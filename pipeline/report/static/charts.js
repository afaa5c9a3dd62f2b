/* Histograms as inline SVG. */

const SVG = "http://www.w3.org/2000/svg";
const number = new Intl.NumberFormat("en");
const brief = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function html(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key in node && typeof value !== "string") node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

/** A row of buttons of which one is chosen; arrow keys move, as in a radio group. */
function segmented(box, options, chosen, onChoose) {
  box.replaceChildren(
    ...options.map(([value, label, note]) => {
      const on = value === chosen;
      const button = html("button", { type: "button", role: "radio", "aria-checked": String(on), tabindex: on ? "0" : "-1" }, label);
      if (note !== undefined) button.append(html("b", {}, note));
      button.dataset.value = value;
      button.onclick = () => onChoose(value);
      return button;
    }),
  );
  box.onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const at = options.findIndex(([value]) => value === chosen);
    onChoose(options[(at + step + options.length) % options.length][0]);
    box.querySelector('[aria-checked="true"]')?.focus();
  };
}

const tip = document.getElementById("tip");

/** Shows nodes beside the pointer, inside the open dialog if there is one. */
function showTip(event, ...nodes) {
  (document.querySelector("dialog[open]") ?? document.body).append(tip);
  tip.replaceChildren(...nodes);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const x = Math.min(event.clientX + 14, innerWidth - box.width - 8);
  const y = event.clientY + 18 + box.height > innerHeight ? event.clientY - box.height - 12 : event.clientY + 18;
  tip.style.left = `${Math.max(8, x)}px`;
  tip.style.top = `${y}px`;
}

function hideTip() {
  tip.hidden = true;
}

const short = (value) => (value >= 10000 ? brief.format(value) : number.format(Number(value.toPrecision(4))));

/** Positions and words of a chart's axis; `x` maps a value to pixels. */
function axisTicks(edges, scale) {
  const [low, high] = [edges[0], edges[edges.length - 1]];
  if (scale === "log") {
    const within = (steps) => {
      const ticks = [];
      for (let p = Math.floor(Math.log10(low)); 10 ** p <= high; p++) ticks.push(...steps.map((m) => m * 10 ** p));
      return ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
    };
    const powers = within([1]);
    return powers.length > 2 ? powers : within([1, 2, 5]);
  }
  const raw = (high - low) / 4;
  const base = 10 ** Math.floor(Math.log10(raw));
  const step = base * [1, 2, 5, 10].find((m) => m * base >= raw);
  const ticks = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step / 1e6; v += step) ticks.push(Number(v.toPrecision(6)));
  return ticks;
}

/**
 * Draws a histogram into a <figure>.
 * @param options {series: {scale: {edges, counts}}, spread, integer, pick(low, high), picked()}
 */
function histogram(figure, options) {
  const { series, spread } = options;
  const unit = figure.dataset.unit ? ` ${figure.dataset.unit}` : "";
  const scales = Object.keys(series);
  let scale = scales[0];
  const head = html("div", { class: "chart-head" }, html("h2", {}, figure.dataset.title));
  const note = html("p", { class: "chart-note" });
  const body = html("div");
  const switcher = html("div", { class: "segmented", role: "radiogroup", "aria-label": "Scale" });
  if (scales.length > 1) head.append(switcher);
  figure.replaceChildren(head, note, body);
  if (!spread) {
    body.append(html("p", { class: "none muted" }, options.none));
    return () => {};
  }
  note.textContent = `mean ${short(spread.mean)} · ${short(spread.low)} to ${short(spread.high)}${unit}`;

  function words(low, high) {
    if (!options.integer) return `${number.format(low)} to ${number.format(high)}`;
    const first = Math.ceil(low - 1e-6);
    const last = Math.ceil(high - 1e-6) - 1;
    return (last <= first ? number.format(first) : `${number.format(first)} to ${number.format(last)}`) + unit;
  }

  function draw() {
    segmented(switcher, scales.map((name) => [name, name]), scale, (value) => { scale = value; draw(); });
    const { edges, counts } = series[scale];
    const width = Math.max(220, Math.round(body.clientWidth));
    const height = 148, foot = 22, left = 40;
    const top = Math.max(...counts);
    const total = counts.reduce((a, b) => a + b, 0);
    const position = scale === "log" ? Math.log10 : (value) => value;
    const [from, to] = [position(edges[0]), position(edges[edges.length - 1])];
    const x = (value) => left + ((position(value) - from) / (to - from)) * (width - left);
    const y = (count) => Math.round((height - foot) * (1 - count / top) + (count / top) * 4);
    const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": `${figure.dataset.title}: ${note.textContent}` });
    for (const value of axisTicks([0, top], "linear").filter(Number.isInteger)) {
      const at = y(value) + 0.5;
      picture.append(svg("line", { x1: left, x2: width, y1: at, y2: at }));
      picture.append(svg("text", { x: left - 7, y: at + 4, "text-anchor": "end" }, brief.format(value)));
    }
    const picked = options.picked?.();
    counts.forEach((count, i) => {
      const [low, high] = [edges[i], edges[i + 1]];
      const [a, b] = [Math.round(x(low)), Math.round(x(high))];
      const gap = b - a > 4 ? 1 : 0;
      const bar = count ? Math.max(1, height - foot - y(count)) : 0;
      const group = svg("g", { role: "img", "aria-label": `${words(low, high)}: ${number.format(count)}` },
        svg("rect", { class: "slot", x: a, y: 0, width: Math.max(1, b - a), height: height - foot }),
        svg("rect", { class: "bar-mark", x: a, y: height - foot - bar, width: Math.max(1, b - a - gap), height: bar, rx: b - a > 8 ? 1.5 : 0 }));
      group.onpointermove = (event) => showTip(event,
        html("b", {}, words(low, high)), html("br"), `${number.format(count)} `,
        html("span", { class: "muted" }, `${((100 * count) / total).toPrecision(3)} %`));
      group.onpointerleave = hideTip;
      if (options.pick && count) {
        group.classList.add("pick");
        group.setAttribute("role", "button");
        group.setAttribute("tabindex", "0");
        group.onclick = () => options.pick(i);
        group.onkeydown = (event) => { if (event.key === "Enter") options.pick(i); };
      }
      if (picked && (i < picked[0] || i >= picked[1])) group.classList.add("out");
      picture.append(group);
    });
    let free = 0;
    for (const value of axisTicks(edges, scale)) {
      const label = short(value);
      const half = label.length * 3.4;
      const at = Math.min(Math.max(x(value), half), width - half);
      if (at - half < free) continue;
      free = at + half + 8;
      picture.append(svg("text", { x: at, y: height - 5, "text-anchor": "middle" }, label));
    }
    body.replaceChildren(picture);
  }

  new ResizeObserver(draw).observe(body);
  draw();
  return draw;
}
