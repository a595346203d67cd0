// The pair under the pointer: its path, its interval, its numbers.
const shownPair = { pair: -1, row: 0, column: 0, pinned: false };
let pathNumbers = new Map(); // of the place: metric to numbers, NaN where none

async function openPaths() {
  const prefix = view.place + ".p.";
  const wanted = ["loss", state.metric];
  const found = await Promise.all(wanted.map((name) => numbers(prefix + name)));
  pathNumbers = new Map(wanted.map((name, i) => [name, found[i]]));
  const more = ["p_holm", "barrier_entezari", "barrier_entezari_low", "barrier_entezari_high", "t_peak", "barrier_frankle", "barrier_frankle_low", "barrier_frankle_high", "distance_l2", "cosine", "agreement_ends", "bound", "passes"];
  const values = await Promise.all(more.map((name) => numbers(view.place + ".v." + name)));
  view.more = new Map(more.map((name, i) => [name, values[i]]));
  const texts = Object.keys(facts.categories);
  const codes = await Promise.all(texts.map((name) => numbers(view.place + ".c." + name)));
  view.texts = new Map(texts.map((name, i) => [name, codes[i]]));
  view.extent = new Map();
}

const path = (name, pair) => {
  const all = pathNumbers.get(name);
  const width = facts.places[view.place].grid.length;
  return all && width ? Array.from(all.subarray(pair * width, (pair + 1) * width)) : [];
};
const numberOf = (name, pair) => (view.more.get(name) ? view.more.get(name)[pair] : NaN);
const textOf = (name, pair) => {
  const code = view.texts.get(name) ? view.texts.get(name)[pair] : 0;
  return code > 0 ? facts.categories[name][code - 1] : "";
};

function pairFigure(pair, paint, width) {
  const grid = facts.places[view.place].grid;
  const loss = path("loss", pair);
  const metric = facts.metrics.find((one) => one.name === state.metric);
  const below = metric ? path(metric.name, pair) : [];
  const known = grid.map((_, i) => i).filter((i) => !Number.isNaN(loss[i]));
  const [t, l] = [known.map((i) => grid[i]), known.map((i) => loss[i])];
  const data = [];
  const bound = numberOf("bound", pair);
  if (bound > 0) {
    data.push({ type: "scatter", mode: "lines", x: [...t, ...[...t].reverse()], y: [...l.map((one) => one + bound), ...l.map((one) => one - bound).reverse()], fill: "toself", fillcolor: paint.loss + "33", line: { width: 0 }, name: `within ${bound}`, hoverinfo: "skip" });
  }
  const marks = t.length <= 60 ? "lines+markers" : "lines";
  data.push({ type: "scatter", mode: "lines", x: [t[0], t[t.length - 1]], y: [l[0], l[l.length - 1]], line: { color: paint.quiet, dash: "dash", width: 1 }, name: "chord", hoverinfo: "skip" });
  data.push({ type: "scatter", mode: marks, x: t, y: l, line: { color: paint.loss, width: 2 }, marker: { size: 4 }, name: "loss", hovertemplate: "t %{x:.2f}: %{y:.4f} nats<extra></extra>" });
  const [height, low, high, peak] = ["barrier_entezari", "barrier_entezari_low", "barrier_entezari_high", "t_peak"].map((name) => numberOf(name, pair));
  if (height > 0 && t.length) {
    const chord = l[0] + (l[l.length - 1] - l[0]) * peak;
    const bars = Number.isNaN(low) ? {} : { error_y: { type: "data", symmetric: false, array: [0, Math.max(0, high - height)], arrayminus: [0, Math.max(0, height - low)], color: paint.barrier, thickness: 1.6, width: 6 } };
    data.push({ type: "scatter", mode: "lines", x: [peak, peak], y: [chord, chord + height], line: { color: paint.barrier, width: 2 }, ...bars, name: width < NARROW ? "barrier" : "Entezari barrier" + (Number.isNaN(low) ? "" : ", 95 % interval"), hoverinfo: "skip" });
  }
  const both = (x, y, axis) => ({ type: "scatter", mode: "markers", x: [x[0], x[x.length - 1]], y: [y[0], y[y.length - 1]], marker: { size: 10, symbol: ["circle", "square"], color: paint.paper, line: { color: paint.text, width: 2 } }, name: "ends", showlegend: false, hoverinfo: "skip", yaxis: axis });
  if (t.length) data.push(both(t, l, "y"));
  const some = grid.map((_, i) => i).filter((i) => !Number.isNaN(below[i]));
  if (metric && some.length) {
    const [x, y] = [some.map((i) => grid[i]), some.map((i) => below[i])];
    data.push({ type: "scatter", mode: marks, x, y, yaxis: "y2", line: { color: paint.metric, width: 2 }, marker: { size: 4 }, name: metric.title, showlegend: false, hovertemplate: "t %{x:.2f}: %{y:.4f}<extra></extra>" });
    data.push(both(x, y, "y2"));
  }
  const axis = { gridcolor: paint.line, zeroline: false, linecolor: paint.line, tickfont: { size: 11 }, automargin: false, nticks: 6 };
  const layout = {
    width, height: 400, margin: { l: 68, r: 12, t: 8, b: 66, autoexpand: false }, paper_bgcolor: paint.paper, plot_bgcolor: paint.paper, hovermode: "closest",
    font: { family: FONT, size: 12, color: paint.text },
    xaxis: { ...axis, range: [-0.03, 1.03], tickvals: [0, 0.25, 0.5, 0.75, 1], ticktext: ["0", "0.25", "0.5", "0.75", "1"], anchor: "y2", title: { text: "t", standoff: 4 } },
    yaxis: { ...axis, domain: [0.42, 1], title: { text: "loss (nats)", standoff: 6 } },
    yaxis2: { ...axis, domain: [0, 0.34], title: { text: metric ? plain(metric.title) : "", standoff: 6 }, nticks: 4 },
    legend: { orientation: "h", y: -0.12, x: 0, yanchor: "top", font: { size: 11 }, bgcolor: "rgba(0,0,0,0)" },
  };
  if ($("common-loss").checked) {
    layout.yaxis.range = extent("loss");
    if (metric) layout.yaxis2.range = extent(metric.name);
  }
  return { data, layout };
}

// Lowest and highest of a metric over all pairs of the place, with a little room.
function extent(name) {
  if (!view.extent.has(name)) {
    let [low, high] = [Infinity, -Infinity];
    for (const one of pathNumbers.get(name) || []) {
      if (one < low) low = one;
      if (one > high) high = one;
    }
    const room = (high - low || 1) * 0.05;
    view.extent.set(name, low <= high ? [low - room, high + room] : [0, 1]);
  }
  return view.extent.get(name);
}

function describe(row, column) {
  const [i, j] = [view.order[row], view.order[column]];
  if (i === j) return `Row ${row + 1}, ${minima.names[i]}: the same minimum.`;
  const pair = pairAt[i * count + j];
  const cell = view.z[row][column];
  const said = `Row ${row + 1}, ${minima.names[i]}; column ${column + 1}, ${minima.names[j]}: `;
  if (cell === null) return said + "no value.";
  const unit = view.value.unit;
  let text = said + `${view.value.title} ${written(cell, unit)} ${unit === view.value.title ? "" : unit}`;
  if (view.intervals) text += `, 95 % interval ${written(view.intervals[0][pair], unit)} to ${written(view.intervals[1][pair], unit)}`;
  const p = numberOf("p_holm", pair);
  if (!Number.isNaN(p)) text += `; p of no barrier ${written(p, "probability")}`;
  return text + ".";
}

function select(row, column, how) {
  const [i, j] = [view.order[row], view.order[column]];
  shownPair.row = row;
  shownPair.column = column;
  placeCursor();
  const pair = i === j ? -1 : pairAt[i * count + j];
  if (how === "keys" || how === "pin") $("spoken").textContent = describe(row, column);
  if (pair < 0) {
    if (i !== j) nothing(i, j);
    return;
  }
  shownPair.pair = pair;
  drawPair();
}

function nothing(i, j) {
  shownPair.pair = -1;
  $("pair-name").replaceChildren(element("span", `${minima.names[i]} and ${minima.names[j]}: no such pair in this sweep`));
  $("pair-facts").replaceChildren();
  Plotly.react($("pair"), [], pairFigureEmpty(), CONFIG);
}

function pairFigureEmpty() {
  const paint = colours();
  return { width: $("pair-figure").clientWidth, height: 400, paper_bgcolor: paint.paper, plot_bgcolor: paint.paper, xaxis: { visible: false }, yaxis: { visible: false } };
}

function drawPair() {
  const pair = shownPair.pair;
  if (pair < 0) return;
  const [a, b] = [ends[0][pair], ends[1][pair]];
  const end = (at, i) => {
    const line = element("span", undefined, "end");
    line.append(element("span", at, "at"), minima.numbers[i] + "  " + minima.names[i] + (minima.weak[i] ? " ★ below the floor" : ""));
    return line;
  };
  $("pair-name").replaceChildren(end("○ t = 0", a), end("□ t = 1", b));
  $("pair-hint").hidden = true;
  $("pinned").textContent = shownPair.pinned ? "pinned; click it again or press Escape to let it go" : "";
  const { data, layout } = pairFigure(pair, colours(), $("pair-figure").clientWidth);
  Plotly.react($("pair"), data, layout, CONFIG);
  $("pair-facts").replaceChildren(...pairFacts(pair).map(([name, text]) => {
    const line = document.createElement("div");
    line.append(element("dt", name), element("dd", text));
    return line;
  }));
}

function pairFacts(pair) {
  const interval = (name, unit) => {
    const [low, high] = [numberOf(name + "_low", pair), numberOf(name + "_high", pair)];
    return Number.isNaN(low) ? "" : ` [${written(low, unit)}, ${written(high, unit)}]`;
  };
  const found = [];
  const { name, title, unit } = view.value;
  const [own, low, high] = [view.column[pair], ...(view.intervals || []).map((one) => one[pair])];
  if (name !== "barrier_entezari" && name !== "barrier_frankle") {
    found.push([title, `${written(own, unit)}${low === undefined ? "" : ` [${written(low, unit)}, ${written(high, unit)}]`} ${unit === "t" || unit === title ? "" : unit}`]);
  }
  found.push(["Entezari barrier", `${written(numberOf("barrier_entezari", pair), "nats")}${interval("barrier_entezari", "nats")} nats, at t = ${written(numberOf("t_peak", pair), "t")}`]);
  found.push(["p of no barrier", `${written(numberOf("p_holm", pair), "probability")} (Holm)`]);
  found.push(["Frankle barrier", `${written(numberOf("barrier_frankle", pair), "rate")}${interval("barrier_frankle", "rate")} error rate`]);
  found.push(["L2 distance, cosine", `${written(numberOf("distance_l2", pair), "parameters")}, ${written(numberOf("cosine", pair), "cosine")}`]);
  found.push(["agreement of the ends", written(numberOf("agreement_ends", pair), "rows")]);
  found.push(["differs in", textOf("differs", pair) || "nothing recorded"]);
  const notes = [];
  if (textOf("same_trajectory", pair) === "True") notes.push("snapshots of one run");
  if (textOf("below_floor", pair) === "True") notes.push("an end is below the floor");
  if (textOf("chosen_on", pair)) notes.push("chosen on " + textOf("chosen_on", pair));
  if (textOf("head", pair) && textOf("head", pair) !== "path") notes.push("head of " + (minima.names[minima.keys.indexOf(textOf("head", pair))] || textOf("head", pair)));
  if (numberOf("bound", pair) > 0) notes.push(`loss within ${written(numberOf("bound", pair), "nats")} nats of an exhaustive profile`);
  const passes = numberOf("passes", pair);
  if (passes > 0) notes.push(`${written(passes, "passes")} passes` + (textOf("precision", pair) ? " in " + textOf("precision", pair) : ""));
  if (notes.length) found.push(["of the path", notes.join("; ")]);
  return found;
}

function placeCursor() {
  const { box } = view;
  const cursor = $("cursor");
  const [wide, high] = [range.x, range.y].map(([first, last]) => box.side / (last - first));
  const [x, y] = [(shownPair.column - 0.5 - range.x[0]) * wide, (shownPair.row - 0.5 - range.y[0]) * high];
  cursor.hidden = x < -1 || y < -1 || x + wide > box.side + 1 || y + high > box.side + 1;
  Object.assign(cursor.style, { left: box.left + x + "px", top: box.top + box.tree + box.gap + y + "px", width: Math.max(wide, 5) + "px", height: Math.max(high, 5) + "px" });
  cursor.classList.toggle("pinned", shownPair.pinned);
}
