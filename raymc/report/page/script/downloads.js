// What can be taken away: tables as CSV, figures as PNG and SVG. Figures are drawn on white.
function save(name, content, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const fileName = (...parts) => [facts.name, ...parts].join(".").replace(/[^A-Za-z0-9_.-]+/g, "-");
const field = (value) => {
  const text = value === null || (typeof value === "number" && Number.isNaN(value)) ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
};
const csv = (lines) => lines.map((line) => line.map(field).join(",") + "\r\n").join("");

function minimaCsv() {
  const { columns, lines } = facts.table;
  return csv([columns, ...lines]);
}

async function barriersCsv() {
  const names = facts.values.map((one) => one.name);
  const bounds = facts.intervals.flatMap((name) => [name + "_low", name + "_high"]);
  const texts = Object.keys(facts.categories);
  const lines = [["a", "b", "a_name", "b_name", "curve", "split", ...texts, ...names, ...bounds]];
  for (let place = 0; place < facts.places.length; place++) {
    const { curve, split } = facts.places[place];
    const values = await Promise.all([...names, ...bounds].map((name) => numbers(`${place}.v.${name}`)));
    const codes = await Promise.all(texts.map((name) => numbers(`${place}.c.${name}`)));
    const there = codes[texts.indexOf("space")];
    for (let pair = 0; pair < facts.pairs; pair++) {
      if (!there[pair]) continue;
      const [i, j] = [ends[0][pair], ends[1][pair]];
      const said = codes.map((code, k) => facts.categories[texts[k]][code[pair] - 1]);
      lines.push([minima.keys[i], minima.keys[j], minima.names[i], minima.names[j], curve, split, ...said, ...values.map((one) => one[pair])]);
    }
  }
  return csv(lines);
}

async function profilesCsv() {
  const names = facts.metrics.map((one) => one.name);
  const parts = [csv([["a", "b", "curve", "split", "t", ...names]])];
  for (let place = 0; place < facts.places.length; place++) {
    const { curve, split, grid } = facts.places[place];
    const values = await Promise.all(names.map((name) => numbers(`${place}.p.${name}`)));
    if (!values[0]) continue;
    for (let pair = 0; pair < facts.pairs; pair++) {
      const lines = [];
      grid.forEach((t, i) => {
        const at = pair * grid.length + i;
        if (!Number.isNaN(values[0][at])) lines.push([minima.keys[ends[0][pair]], minima.keys[ends[1][pair]], curve, split, t, ...values.map((one) => one[at])]);
      });
      parts.push(csv(lines));
    }
  }
  return parts.join("");
}

function titled({ data, layout }, lines, more) {
  const room = 22 + 17 * lines.length;
  const whole = layout.height;
  layout.margin = { ...layout.margin, t: layout.margin.t + room };
  layout.height = whole + room;
  layout.width = Math.max(layout.width, more || 0);
  layout.title = { text: lines.map((line, i) => (i ? `<span style="font-size:11px">${plain(line)}</span>` : `<b>${plain(line)}</b>`)).join("<br>"), x: 0, xref: "container", xanchor: "left", pad: { l: 12, t: 10 }, y: 1, yref: "container", yanchor: "top", font: { size: 14 } };
  return { data, layout };
}

function figureOf(which) {
  onPaper = true;
  try {
    const paint = colours();
    const { title, unit, definition } = view.value;
    if (which === "matrix") return titled(matrixFigure(view.box, paint, range), [`${facts.name}: ${unitOf(view.value)}`, `${state.curve} path, ${state.split} split`, clipped(definition, Math.floor(view.box.width / 5.6))]);
    if (shownPair.pair < 0) return null;
    const [a, b] = [ends[0][shownPair.pair], ends[1][shownPair.pair]];
    return titled(pairFigure(shownPair.pair, paint, 620), [`${facts.name}: ${state.curve} path, ${state.split} split`, `t = 0: ${minima.names[a]}`, `t = 1: ${minima.names[b]}`]);
  } finally {
    onPaper = false;
  }
}

async function picture(which, format) {
  const figure = figureOf(which);
  if (!figure) return;
  const { width, height } = figure.layout;
  const url = await Plotly.toImage({ ...figure, config: { staticPlot: true } }, { format, width, height, scale: format === "png" ? 3 : 1 });
  const pair = which === "pair" ? [minima.numbers[ends[0][shownPair.pair]] + "-" + minima.numbers[ends[1][shownPair.pair]]] : [state.value];
  const name = fileName(which === "pair" ? "path" : "matrix", ...pair, state.curve, state.split, format);
  const [head, body] = [url.slice(0, url.indexOf(",")), url.slice(url.indexOf(",") + 1)];
  if (format === "svg") return save(name, decodeURIComponent(body), "image/svg+xml");
  const raw = atob(body);
  save(name, Uint8Array.from(raw, (one) => one.charCodeAt(0)), head.includes("png") ? "image/png" : "");
}

const DOWNLOADS = {
  "matrix-png": () => picture("matrix", "png"),
  "matrix-svg": () => picture("matrix", "svg"),
  "pair-png": () => picture("pair", "png"),
  "pair-svg": () => picture("pair", "svg"),
  "minima-csv": () => save(fileName("minima.csv"), minimaCsv(), "text/csv"),
  "barriers-csv": async () => save(fileName("barriers.csv"), await barriersCsv(), "text/csv"),
  "profiles-csv": async () => save(fileName("profiles.csv"), await profilesCsv(), "text/csv"),
};
