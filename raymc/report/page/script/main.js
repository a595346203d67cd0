// Switches, pointer, keys; then the first picture.
const distinct = (values) => [...new Set(values)];

function options(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, text]) => {
    const option = element("option", text);
    option.value = value;
    return option;
  }));
  select.value = entries.some(([value]) => value === chosen) ? chosen : entries[0][0];
  select.closest("label").hidden = entries.length < 2;
  return select.value;
}

const same = (texts) => texts.map((text) => [text, text]);

function fillSwitches() {
  state.curve = options($("curve"), same(distinct(facts.places.map((one) => one.curve))), state.curve);
  state.split = options($("split"), same(distinct(facts.places.filter((one) => one.curve === state.curve).map((one) => one.split))), state.split);
  state.group = options($("group"), same(facts.groups), state.group);
  const values = facts.values.filter((one) => one.group === state.group);
  state.value = options($("value"), values.map((one) => [one.name, one.title]), state.value);
  state.order = options($("order"), orders(), state.order);
  const metrics = facts.metrics.filter((one) => one.name !== "loss");
  if (metrics.length) state.metric = options($("metric"), metrics.map((one) => [one.name, one.title]), state.metric);
  $("metric-switch").hidden = metrics.length < 2;
  $("floor-switch").hidden = !minima.weak.some((one) => one);
}

// A frame later, or where none comes (a tab in the background) a moment later.
const painted = () => new Promise((done) => {
  requestAnimationFrame(() => setTimeout(done, 0));
  setTimeout(done, 200);
});

let latest = 0;
async function show(keepZoom) {
  const turn = ++latest;
  const first = view.more === null; // then the matrix is drawn before the paths are opened
  fillSwitches();
  await compute();
  if (!first) await openPaths();
  if (turn !== latest) return; // another switch was moved in the meantime
  const { value } = view;
  $("definition").textContent = `${value.title}${value.unit === value.title ? "" : ` (${value.unit})`}: ${value.definition}. ${state.curve} path, ${state.split} split${value.mirrored ? "; seen from the row's minimum" : ""}.`;
  await drawMatrix(keepZoom);
  if (first) {
    await painted();
    await openPaths();
  }
  listPairs();
  showParts();
  keepPair();
  document.documentElement.dataset.shown = `${state.curve}|${state.split}|${state.value}|${state.order}`;
}

// The pair stays through every switch; at first it is the one of the highest barrier.
function keepPair() {
  let pair = shownPair.pair;
  if (pair < 0) {
    const heights = view.more.get("barrier_entezari") || view.column;
    heights.forEach((height, i) => {
      if (!Number.isNaN(height) && (pair < 0 || height > heights[pair])) pair = i;
    });
  }
  if (pair < 0) return;
  select(view.at[ends[0][pair]], view.at[ends[1][pair]], "switch");
}

function cellAt(event) {
  const frame = $("matrix").getBoundingClientRect();
  const { box } = view;
  const along = (at, [first, last]) => Math.floor((at / box.side) * (last - first) + first + 0.5);
  const column = along(event.clientX - frame.left - box.left, range.x);
  const row = along(event.clientY - frame.top - box.top - box.tree - box.gap, range.y);
  const inside = column >= Math.ceil(range.x[0]) && column <= range.x[1] && row >= Math.ceil(range.y[0]) && row <= range.y[1];
  return inside ? [row, column] : null;
}

function listen() {
  for (const name of ["curve", "split", "group", "value", "order", "metric"]) {
    $(name).addEventListener("change", (event) => {
      state[name] = event.target.value;
      show(name !== "order");
    });
  }
  $("common").addEventListener("change", (event) => { state.common = event.target.checked; show(true); });
  $("floor").addEventListener("change", (event) => { state.floor = event.target.checked; show(true); });
  $("common-loss").addEventListener("change", drawPair);
  $("pairs-count").addEventListener("change", listPairs);
  $("pairs-from").addEventListener("change", listPairs);
  for (const button of document.querySelectorAll("[data-download]")) {
    button.addEventListener("click", () => Promise.resolve(DOWNLOADS[button.dataset.download]()).catch(trouble));
  }
  const matrix = $("matrix");
  let waiting = null;
  let pressed = null;
  matrix.addEventListener("pointermove", (event) => {
    const cell = cellAt(event);
    if (!cell || shownPair.pinned || event.buttons) return;
    if (cell[0] === shownPair.row && cell[1] === shownPair.column) return;
    if (waiting === null) requestAnimationFrame(() => {
      const [row, column] = waiting;
      waiting = null;
      if (!shownPair.pinned) select(row, column, "pointer");
    });
    waiting = cell;
  });
  matrix.addEventListener("pointerdown", (event) => { pressed = [event.clientX, event.clientY]; }, true);
  window.addEventListener("pointerup", (event) => {
    const moved = pressed ? Math.hypot(event.clientX - pressed[0], event.clientY - pressed[1]) : Infinity;
    pressed = null;
    const cell = moved < 4 ? cellAt(event) : null;
    if (!cell) return;
    matrix.focus({ preventScroll: true });
    const again = cell[0] === shownPair.row && cell[1] === shownPair.column;
    shownPair.pinned = !(again && shownPair.pinned);
    select(cell[0], cell[1], "pin");
  }, true);
  matrix.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Home: [0, -count], End: [0, count], PageUp: [-10, 0], PageDown: [10, 0] };
    const bound = (one) => Math.min(count - 1, Math.max(0, one));
    if (event.key in steps) {
      const [down, right] = steps[event.key];
      select(bound(shownPair.row + down), bound(shownPair.column + right), "keys");
    } else if (event.key === "Enter" || event.key === " " || event.key === "Escape") {
      shownPair.pinned = event.key !== "Escape" && !shownPair.pinned;
      select(shownPair.row, shownPair.column, "keys");
    } else {
      return;
    }
    event.preventDefault();
  });
  let timer = null;
  window.addEventListener("resize", () => {
    clearTimeout(timer);
    timer = setTimeout(redraw, 120);
  });
  dark.addEventListener("change", redraw);
  const paper = (on) => () => { onPaper = on; redraw(); };
  window.addEventListener("beforeprint", paper(true));
  window.addEventListener("afterprint", paper(false));
}

async function redraw() {
  await drawMatrix(true);
  placeCursor();
  drawPair();
}

function zoomed() {
  // Plotly has moved the axes: to whole cells, and give these their labels.
  $("matrix").on("plotly_relayout", (change) => {
    if (!Object.keys(change).some((name) => /^[xy]axis\.(range|autorange)/.test(name))) return;
    const rounded = (ends) => {
      const [low, high] = [Math.min(...ends), Math.max(...ends)];
      const first = Math.min(Math.max(0, Math.round(low)), count - 1);
      return [first - 0.5, Math.max(first + 0.5, Math.min(count - 0.5, Math.round(high) + 0.5))];
    };
    const { xaxis, yaxis } = $("matrix").layout;
    range = Object.values(change).includes(true) ? { x: everything(), y: everything() } : { x: rounded(xaxis.range), y: rounded(yaxis.range) };
    redraw();
  });
}

function trouble(error) {
  $("problem").textContent = "The page could not be drawn: " + error.message;
  $("problem").hidden = false;
}

async function start() {
  for (const table of document.querySelectorAll("table.sortable")) sortable(table);
  if (!("DecompressionStream" in window)) throw new Error("this browser is too old (it lacks DecompressionStream)");
  fillSwitches();
  const first = [numbers("pairs.a"), numbers("pairs.b"), numbers(`${placeOf()}.v.${state.value}`)]; // beside the library
  const library = document.createElement("script");
  library.textContent = new TextDecoder().decode(await inflated($("library").textContent));
  document.head.append(library);
  ends = (await Promise.all(first)).slice(0, 2);
  pairAt = new Int32Array(count * count).fill(-1);
  for (let pair = 0; pair < facts.pairs; pair++) {
    pairAt[ends[0][pair] * count + ends[1][pair]] = pairAt[ends[1][pair] * count + ends[0][pair]] = pair;
  }
  $("rounding").textContent = `paths rounded to ${facts.decimals} decimals`;
  await show(false);
  zoomed();
  listen();
  document.documentElement.dataset.ready = "true";
}

start().catch(trouble);
