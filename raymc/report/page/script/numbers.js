// The page's facts, its packed numbers (see packing.py), and how numbers are written.
const $ = (id) => document.getElementById(id);
const facts = JSON.parse($("facts").textContent);
const blocks = new Map(facts.blocks.map((one) => [one.id, one]));
const opened = new Map();

async function inflated(text) {
  const packed = atob(text);
  const bytes = new Uint8Array(packed.length);
  for (let i = 0; i < packed.length; i++) bytes[i] = packed.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// The numbers of a block; null where the page has none of that name.
function numbers(id) {
  if (!blocks.has(id)) return Promise.resolve(null);
  if (!opened.has(id)) opened.set(id, unpack(id));
  return opened.get(id);
}

async function unpack(id) {
  const { kind, width, decimals } = blocks.get(id);
  const element = $("block-" + id);
  const raw = await inflated(element.textContent);
  const size = kind === "float64" ? 8 : 4;
  const count = raw.length / size;
  const whole = new Uint8Array(raw.length);
  for (let plane = 0; plane < size; plane++) {
    for (let i = 0, at = plane, from = plane * count; i < count; i++, at += size) whole[at] = raw[from + i];
  }
  if (kind === "float64") return new Float64Array(whole.buffer);
  const apart = new Int32Array(whole.buffer);
  const found = new Float64Array(count);
  const scale = 10 ** decimals;
  for (let start = 0; start < count; start += width) {
    let sum = 0;
    for (let i = start; i < start + width; i++) {
      if (apart[i] === -2147483648) found[i] = NaN;
      else found[i] = (sum += apart[i]) / scale;
    }
  }
  return found;
}

// A value for reading. Digits follow its unit, so that numbers below each other line up.
function written(value, unit) {
  if (value === null || value === undefined || Number.isNaN(value)) return "·";
  if (unit === "probability") return value < 0.001 ? "< 0.001" : value.toFixed(3);
  if (unit === "points" || unit === "passes") return String(Math.round(value * 10) / 10);
  if (unit === "parameters") return value >= 1000 ? value.toPrecision(5) : value.toFixed(2);
  if (unit === "t") return value.toFixed(2);
  const size = Math.abs(value);
  if (size >= 1000) return value.toPrecision(4);
  if (size > 0 && size < 0.0001) return value.toExponential(1);
  return value.toFixed(4);
}

// In a cell of the matrix: as few digits as tell the values apart.
function short(value, unit, largest) {
  if (Number.isNaN(value)) return "";
  if (unit === "probability") return value < 0.001 ? "<.001" : value.toFixed(3);
  if (unit === "points" || unit === "passes") return String(Math.round(value * 10) / 10);
  if (unit === "t") return value.toFixed(2);
  return value.toFixed(largest < 0.0995 ? 4 : largest < 9.95 ? 3 : largest < 100 ? 2 : 0);
}

// Names are data: what draws text takes some HTML in it, so nothing in a name may look like that.
function plain(text) {
  return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

function clipped(text, length) {
  return text.length <= length ? text : text.slice(0, length - 1) + "…";
}

const FONT = "system-ui, -apple-system, Segoe UI, Roboto, Liberation Sans, sans-serif";
const ruler = document.createElement("canvas").getContext("2d");

// How wide a text is drawn in FONT, in pixels.
function wide(text, size) {
  ruler.font = `${size}px ${FONT}`;
  return ruler.measureText(text).width;
}

// As much of a text as goes into so many pixels.
function fitted(text, room, size) {
  if (wide(text, size) <= room) return text;
  let length = text.length - 1;
  while (length > 1 && wide(clipped(text, length), size) > room) length--;
  return clipped(text, length);
}

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

const dark = window.matchMedia("(prefers-color-scheme: dark)");
let onPaper = false;
function colours() {
  return dark.matches && !onPaper
    ? { text: "#e6e9ee", quiet: "#a0a8b4", line: "#343b46", paper: "#14171c", cell: "#2c323b", loss: "#56b4e9", metric: "#e69f00", barrier: "#ff8a4c", split: "#ffffff" }
    : { text: "#1b1f24", quiet: "#5b6470", line: "#d9dde3", paper: "#ffffff", cell: "#e4e6ea", loss: "#0072b2", metric: "#a06a00", barrier: "#d55e00", split: "#ffffff" };
}
