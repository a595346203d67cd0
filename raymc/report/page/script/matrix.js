// The matrix: what is shown (`state`), in what order, and how it is drawn.
const minima = facts.minima;
const count = minima.keys.length;
const LABELS = 48; // rows: up to here each has its label
const NARROW = 520; // pixels: below, labels are numbers alone
const WRITTEN = 12; // rows: up to here each cell shows its number
const state = { curve: "", split: "", group: "", value: "", order: "cluster", common: true, floor: false };
const view = { place: 0, value: null, order: [], at: [], column: null, intervals: null, z: [], tree: null, groups: null, box: null, low: 0, high: 1, more: null };
let pairAt = null; // by row times count plus column: the pair, or -1
let ends = null;

const placeOf = () => facts.places.findIndex((one) => one.curve === state.curve && one.split === state.split);
const valueOf = (name) => facts.values.find((one) => one.name === name);

function orders() {
  const found = [];
  if (facts.places.some((one) => Object.keys(one.trees).length)) found.push(["cluster", "by cluster"]);
  minima.axes.forEach((axis, i) => found.push(["axis:" + i, "by " + axis.name]));
  found.push(["name", "by name"], ["sweep", "as in the sweep"]);
  return found;
}

function ordered(place) {
  const all = minima.keys.map((_, i) => i);
  if (state.order === "cluster") {
    const name = place.trees[state.value] ? state.value : "barrier_entezari";
    const tree = place.trees[name];
    return tree ? { order: [...tree.leaves, ...tree.leftOut], tree, of: name } : { order: all };
  }
  if (state.order === "name") {
    const byName = new Intl.Collator("en", { numeric: true });
    return { order: all.sort((i, j) => byName.compare(minima.names[i], minima.names[j]) || i - j) };
  }
  if (state.order.startsWith("axis:")) {
    const axis = minima.axes[Number(state.order.slice(5))];
    const rest = minima.axes.filter((one) => one !== axis);
    const rank = (i, j) => axis.ranks[i] - axis.ranks[j] || rest.reduce((found, one) => found || one.ranks[i] - one.ranks[j], 0) || i - j;
    return { order: all.sort(rank), by: axis.values, called: axis.name.split(".").pop() + " " };
  }
  return { order: all };
}

// Runs of rows that belong together: [label, first, last]; null where they don't lie side by side.
function runs(order, labels, called) {
  const found = [];
  order.forEach((i, row) => {
    const label = labels[i] === null ? null : String(labels[i]);
    if (found.length && found[found.length - 1][0] === label) found[found.length - 1][2] = row;
    else found.push([label, row, row]);
  });
  const named = found.filter((one) => one[0] !== null);
  if (named.length < 2 || named.length > 24 || new Set(named.map((one) => one[0])).size < named.length) return null;
  return found.map(([label, first, last]) => [label === null ? null : called + label, first, last]);
}

async function compute() {
  view.place = placeOf();
  const place = facts.places[view.place];
  view.value = valueOf(state.value);
  const prefix = view.place + ".";
  const [column, low, high, weak] = await Promise.all([
    numbers(prefix + "v." + state.value),
    numbers(prefix + "v." + state.value + "_low"),
    numbers(prefix + "v." + state.value + "_high"),
    state.floor ? numbers(prefix + "c.below_floor") : null,
  ]);
  view.column = column;
  view.intervals = low && high ? [low, high] : null;
  const found = ordered(place);
  view.order = found.order;
  view.at = [];
  view.order.forEach((i, row) => (view.at[i] = row));
  view.tree = found.tree || null;
  view.treeOf = found.of;
  const clusters = place.clusters.some((label) => label !== null);
  view.groups = found.by ? runs(view.order, found.by, found.called) : found.tree && clusters ? runs(view.order, place.clusters, "cluster ") : null;
  const hidden = weak ? facts.categories.below_floor.indexOf("True") + 1 : -1;
  view.missing = 0;
  let [lowest, highest] = [Infinity, -Infinity];
  view.z = view.order.map((i) =>
    view.order.map((j) => {
      const pair = pairAt[i * count + j];
      let value = pair < 0 || (weak && weak[pair] === hidden) ? NaN : column[pair];
      if (Number.isNaN(value)) {
        if (i !== j) view.missing++;
        return null;
      }
      if (view.value.mirrored && ends[0][pair] !== i) value = 1 - value;
      if (value < lowest) lowest = value;
      if (value > highest) highest = value;
      return value;
    }),
  );
  if (lowest > highest) [lowest, highest] = [0, 1];
  const whole = state.common || view.value.toOne;
  view.low = whole ? view.value.low : view.value.fromLowest ? lowest : Math.min(0, lowest);
  view.high = whole ? view.value.high : highest;
  if (!(view.high > view.low)) view.high = view.low + 1;
}

const label = (i) => minima.numbers[i] + "  " + minima.names[i] + (minima.weak[i] ? " ★" : "");
const unitOf = (value) => value.title + (value.unit === value.title || value.unit === "t" ? "" : " (" + value.unit + ")");

// Where everything lies, in pixels; `width`: of the column that the matrix is in.
function placed(width) {
  const many = count > LABELS;
  const narrow = width < NARROW && !many;
  const longest = many || narrow ? 0 : Math.max(...minima.keys.map((_, i) => wide(label(i), 12)));
  const left = many ? 48 : narrow ? 34 : Math.min(Math.max(Math.ceil(longest) + 14, 40), 250, Math.round(width * 0.4));
  const right = 84;
  const groups = view.groups ? 20 : 6;
  const tree = view.tree ? 78 : 0;
  const side = Math.max(120, Math.min(width - left - right, 720, many ? 720 : Math.max(200, 74 * count)));
  return { narrow, left, right, top: 8, bottom: 26, tree, gap: view.tree || view.groups ? groups : 2, side, width: left + side + right, height: 8 + tree + (view.tree || view.groups ? groups : 2) + side + 26 };
}

function matrixFigure(box, paint, range) {
  const { value } = view;
  const all = box.tree + box.gap + box.side;
  const high = view.z.reduce((found, row) => row.reduce((most, cell) => Math.max(most, Math.abs(cell || 0)), found), 0);
  const rows = view.order.map((_, row) => row);
  const numbers = [];
  const heat = {
    type: "heatmap", z: view.z, zmin: view.low, zmax: view.high, colorscale: "Viridis", hoverinfo: "none",
    xgap: count <= 60 ? 1 : 0, ygap: count <= 60 ? 1 : 0,
    colorbar: {
      thickness: 13, outlinewidth: 0, len: box.side / all, lenmode: "fraction", y: box.side / all / 2, x: 1, xpad: 10,
      title: { text: unitOf(value), side: "right", font: { size: 12.5 } }, tickfont: { size: 11.5 }, nticks: 7,
    },
  };
  if (count <= WRITTEN) {
    const size = Math.min(13, Math.max(8, box.side / count / 4.8));
    view.z.forEach((row, y) => row.forEach((cell, x) => {
      if (cell !== null) numbers.push({ text: short(cell, value.unit, high), x, y, showarrow: false, font: { size, color: contrast(cell) } });
    }));
  }
  const ticksOf = ([low, high]) => {
    const inView = rows.slice(Math.max(0, Math.ceil(low)), Math.min(count - 1, Math.floor(high)) + 1);
    const step = inView.length <= LABELS ? 1 : [5, 10, 20, 25, 50, 100, 250].find((one) => inView.length / one <= 14) || 500;
    const at = inView.filter((row) => step === 1 || (row + 1) % step === 0);
    const number = at.map((row) => String(step === 1 ? minima.numbers[view.order[row]] : row + 1));
    const size = step > 1 ? 11 : Math.min(12, Math.max(7, box.side / Math.max(inView.length, 1) - 1));
    return { tickvals: at, ticktext: number, tickfont: { size }, tickangle: inView.length > 24 && step === 1 ? -90 : 0 };
  };
  const still = { showgrid: false, zeroline: false, ticks: "outside", ticklen: 4, tickcolor: "rgba(0,0,0,0)", minallowed: -0.5, maxallowed: count - 0.5 };
  const [across, down] = [ticksOf(range.x), { ...ticksOf(range.y), tickangle: 0 }];
  if (count <= LABELS && !box.narrow) down.ticktext = down.tickvals.map((row) => plain(fitted(label(view.order[row]), box.left - 12, down.tickfont.size)));
  const layout = {
    width: box.width, height: box.height, paper_bgcolor: paint.paper, plot_bgcolor: paint.cell, hovermode: false, dragmode: "zoom",
    margin: { l: box.left, r: box.right, t: box.top, b: box.bottom, pad: 0, autoexpand: false },
    font: { family: FONT, size: 12, color: paint.text },
    xaxis: { ...still, ...across, range: [...range.x], domain: [0, 1] },
    yaxis: { ...still, ...down, range: [range.y[1], range.y[0]], domain: [0, box.side / all] },
    shapes: [], annotations: numbers, showlegend: false,
  };
  const data = [heat];
  if (view.tree) {
    const [x, y] = brackets(view.tree);
    data.push({ type: "scatter", mode: "lines", x, y, yaxis: "y2", line: { color: paint.quiet, width: 1 }, hoverinfo: "none" });
    const top = Math.max(...view.tree.merges.map((one) => one[2]), 0) || 1;
    layout.yaxis2 = { domain: [(box.side + box.gap) / all, 1], anchor: "x", range: [0, top * 1.04], nticks: 3, tickfont: { size: 10, color: paint.quiet }, showgrid: false, zeroline: false, fixedrange: true, side: "right", ticks: "outside", ticklen: 3, tickcolor: paint.line, showline: true, linecolor: paint.line };
  }
  // above the matrix is paper, not the colour of a cell without a value
  layout.shapes.push({ type: "rect", xref: "paper", yref: "paper", x0: 0, x1: 1, y0: box.side / all, y1: 1, fillcolor: paint.paper, line: { width: 0 }, layer: "below" });
  if (view.groups) {
    for (const [name, from, to] of view.groups) {
      if (from > 0) {
        for (const [color, width] of [["#ffffff", 3], ["#000000", 1]]) {
          layout.shapes.push({ type: "line", x0: from - 0.5, x1: from - 0.5, y0: -0.5, y1: count - 0.5, line: { color, width } });
          layout.shapes.push({ type: "line", y0: from - 0.5, y1: from - 0.5, x0: -0.5, x1: count - 0.5, line: { color, width } });
        }
      }
      const seen = [Math.max(from - 0.5, range.x[0]), Math.min(to + 0.5, range.x[1])];
      const room = Math.floor((((seen[1] - seen[0]) / (range.x[1] - range.x[0])) * box.side) / 6.6);
      if (name === null || room < 1) continue;
      const said = name.length <= room ? name : name.split(" ").pop();
      if (said.length <= room) layout.annotations.push({ text: plain(said), x: (seen[0] + seen[1]) / 2, y: box.side / all, yref: "paper", yanchor: "bottom", showarrow: false, font: { size: 11.5, color: paint.quiet } });
    }
  }
  return { data, layout };
}

// Black or white, whichever stands out from the colour of a value: viridis is dark up to about six tenths.
const contrast = (value) => ((value - view.low) / (view.high - view.low) > 0.58 ? "#000000" : "#ffffff");

function brackets(tree) {
  const place = tree.leaves.map((_, i) => i);
  const height = tree.leaves.map(() => 0);
  const [x, y] = [[], []];
  for (const [one, other, high] of tree.merges) {
    x.push(place[one], place[one], place[other], place[other], null);
    y.push(height[one], high, high, height[other], null);
    place.push((place[one] + place[other]) / 2);
    height.push(high);
  }
  return [x, y];
}

const CONFIG = { displaylogo: false, displayModeBar: false, responsive: false, doubleClick: "reset", scrollZoom: false };
const everything = () => [-0.5, count - 0.5];
let range = { x: everything(), y: everything() }; // rows and columns in view

async function drawMatrix(keepZoom) {
  if (!keepZoom) range = { x: everything(), y: everything() };
  const board = document.querySelector(".board");
  board.classList.toggle("small", count <= 9 && window.innerWidth > 980);
  const width = board.classList.contains("small") ? Math.min(window.innerWidth * 0.55, 900) : $("matrix-figure").clientWidth;
  view.box = placed(width);
  $("matrix-frame").style.width = view.box.width + "px";
  const { data, layout } = matrixFigure(view.box, colours(), range);
  await Plotly.react($("matrix"), data, layout, CONFIG);
  const notes = [];
  if (view.missing) notes.push(`grey: no value (${(view.missing / 2).toLocaleString("en")} ${view.missing === 2 ? "pair" : "pairs"})`);
  if (view.tree) notes.push("tree: average linkage of the " + valueOf(view.treeOf).title);
  if (view.tree && view.tree.leftOut.length) notes.push(`without ${view.tree.leftOut.length} minima that lack pairs, last here`);
  if (minima.weak.some((one) => one)) notes.push("★ below the floor");
  if (view.box.narrow) notes.push("numbered as in the table of minima");
  if (count > WRITTEN) notes.push("drag to zoom, double click for all");
  $("matrix-note").textContent = notes.join("; ");
}
