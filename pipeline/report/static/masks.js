/* Masks: COCO run-length strings → a map of segments → colour on a canvas. */

/** Column-major positions at which a mask changes between outside and inside, outside first. */
function maskChanges(text) {
  const counts = [];
  const changes = [];
  let at = 0;
  for (let i = 0; i < text.length; ) {
    let value = 0, shift = 0, digit;
    do {
      digit = text.charCodeAt(i++) - 48;
      value |= (digit & 31) << shift;
      shift += 5;
    } while (digit & 32);
    if (digit & 16 && shift < 32) value |= -1 << shift;
    if (counts.length > 2) value += counts[counts.length - 2];
    counts.push(value);
    at += value;
    changes.push(at);
  }
  changes.pop(); // the end of the picture is no change
  return changes;
}

/** For `samples` places spread evenly over `length`: how many lie before each of 0…length. */
function sampleRanks(length, samples) {
  const ranks = new Int32Array(length + 1);
  for (let j = 0; j < samples; j++) ranks[Math.floor(((2 * j + 1) * length) / (2 * samples)) + 1]++;
  for (let i = 1; i <= length; i++) ranks[i] += ranks[i - 1];
  return ranks;
}

/**
 * Which segment each pixel belongs to.
 * @param segments [id, category, score, area, box, counts, prompt], the topmost last
 * @param size [height, width] of the masks
 * @param side the longer side of the map at most
 * @returns {{height, width, labels}} labels: column-major, 0 = none, i + 1 = segments[i]
 */
function segmentMap(segments, [sourceHeight, sourceWidth], side) {
  const scale = Math.min(1, side / Math.max(sourceHeight, sourceWidth));
  const height = Math.max(1, Math.round(sourceHeight * scale));
  const width = Math.max(1, Math.round(sourceWidth * scale));
  const labels = new (segments.length < 65535 ? Uint16Array : Uint32Array)(height * width);
  const rows = sampleRanks(sourceHeight, height);
  const columns = sampleRanks(sourceWidth, width);
  const place = (position) => {
    const column = Math.floor(position / sourceHeight);
    if (column >= sourceWidth) return labels.length;
    const before = columns[column];
    const inside = columns[column + 1] > before ? rows[position - column * sourceHeight] : 0;
    return before * height + inside;
  };
  segments.forEach((segment, index) => {
    const changes = maskChanges(segment[5]);
    for (let k = 0; k < changes.length; k += 2) {
      const end = k + 1 < changes.length ? place(changes[k + 1]) : labels.length;
      labels.fill(index + 1, place(changes[k]), end);
    }
  });
  return { height, width, labels };
}

const rgbOf = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

/** White for what is dark, nearly black for what is light (luma of BT.601). */
const contrary = ([r, g, b]) => (0.299 * r + 0.587 * g + 0.114 * b < 140 ? [255, 255, 255] : [16, 18, 24]);

/** Colours for instances: hues a golden angle apart, never two alike beside each other. */
function instanceColour(number) {
  const hue = (number * 137.508 + 195) % 360;
  const lightness = [0.6, 0.68, 0.53][number % 3];
  const channel = (n) => {
    const k = (n + hue / 30) % 12;
    const a = 0.82 * Math.min(lightness, 1 - lightness);
    return Math.round(255 * (lightness - a * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return [channel(0), channel(8), channel(4)];
}

/**
 * Draws a segment map.
 * @param canvas gets a whole multiple of the map's size, so that outlines stay thin
 * @param style index → {rgb, edge, fill, line} with alphas in 0…1 and edge of rgb unless given, or
 *   null for nothing
 * @param target the canvas's longer side at least, where the map is smaller
 */
function paintSegments(canvas, map, count, style, target) {
  const { height, width, labels } = map;
  const zoom = Math.max(1, Math.min(8, Math.round(target / Math.max(height, width))));
  const w = (canvas.width = width * zoom);
  const h = (canvas.height = height * zoom);
  const fills = new Uint32Array(count + 1);
  const lines = new Uint32Array(count + 1);
  for (let i = 0; i < count; i++) {
    const look = style(i);
    if (!look) continue;
    const word = ([r, g, b], alpha) => (Math.round(alpha * 255) << 24) | (b << 16) | (g << 8) | r;
    fills[i + 1] = word(look.rgb, look.fill);
    lines[i + 1] = word(look.edge ?? look.rgb, look.line);
  }
  const context = canvas.getContext("2d");
  const image = context.createImageData(w, h);
  const pixels = new Uint32Array(image.data.buffer);
  const reach = Math.max(1, Math.round(Math.max(w, h) / 700)); // outline width in canvas pixels
  const columnOf = Int32Array.from({ length: w }, (_, x) => Math.floor(x / zoom) * height);
  const rowOf = Int32Array.from({ length: h }, (_, y) => Math.floor(y / zoom));
  for (let y = 0; y < h; y++) {
    const row = rowOf[y];
    const above = rowOf[Math.max(0, y - reach)];
    const below = rowOf[Math.min(h - 1, y + reach)];
    for (let x = 0; x < w; x++) {
      const column = columnOf[x];
      const label = labels[column + row];
      if (!label) continue;
      const edge =
        labels[column + above] !== label || labels[column + below] !== label ||
        labels[columnOf[Math.max(0, x - reach)] + row] !== label ||
        labels[columnOf[Math.min(w - 1, x + reach)] + row] !== label;
      pixels[y * w + x] = edge ? lines[label] : fills[label];
    }
  }
  context.putImageData(image, 0, 0);
}
