// Tables that sort, and the list of pairs.
function sortable(table) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, index) => {
    const button = element("button", head.textContent);
    button.type = "button";
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      [...head.parentNode.cells].forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const number = head.classList.contains("number");
      const key = (row) => {
        const cell = row.cells[index];
        return number ? (cell.dataset.sort === undefined ? NaN : Number(cell.dataset.sort)) : cell.dataset.sort || cell.textContent;
      };
      const byText = new Intl.Collator("en", { numeric: true });
      const rows = [...body.rows].map((row) => [key(row), row]);
      rows.sort(([x], [y]) => {
        if (!number) return (up ? 1 : -1) * byText.compare(x, y);
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y); // no value: last
        return up ? x - y : y - x;
      });
      body.append(...rows.map(([, row]) => row));
    });
  });
}

function listPairs() {
  const table = $("pairs");
  const { column, value } = view;
  const way = Number($("pairs-from").value);
  const known = [];
  for (let pair = 0; pair < facts.pairs; pair++) if (!Number.isNaN(column[pair])) known.push(pair);
  known.sort((p, q) => way * (column[p] - column[q]) || p - q);
  const some = known.slice(0, Number($("pairs-count").value));
  $("pairs-note").textContent = `${unitOf(value)}, ${state.curve} path, ${state.split} split: ${known.length.toLocaleString("en")} ${known.length === 1 ? "pair" : "pairs"}. A pair opens above.`;
  const withInterval = view.intervals !== null;
  const others = ["barrier_entezari", "barrier_frankle", "p_holm", "distance_l2"].filter((name) => name !== value.name && view.more.get(name));
  const head = document.createElement("tr");
  const columns = [["a (t = 0)"], ["b (t = 1)"], ["differs in"], [unitOf(value), true], ...(withInterval ? [["95 % interval", true]] : []), ...others.map((name) => [valueOf(name) ? unitOf(valueOf(name)) : name, true])];
  for (const [title, number] of columns) {
    const cell = element("th", title, number ? "number" : "");
    cell.scope = "col";
    head.append(cell);
  }
  table.tHead.replaceChildren(head);
  table.tBodies[0].replaceChildren(...some.map((pair) => {
    const row = document.createElement("tr");
    const [i, j] = [ends[0][pair], ends[1][pair]];
    const open = element("button", minima.numbers[i] + "  " + minima.names[i]);
    open.type = "button";
    const first = document.createElement("td");
    first.append(open);
    row.append(first, element("td", minima.numbers[j] + "  " + minima.names[j]), element("td", textOf("differs", pair)), element("td", written(column[pair], value.unit), "number"));
    if (withInterval) row.append(element("td", `${written(view.intervals[0][pair], value.unit)} to ${written(view.intervals[1][pair], value.unit)}`, "number"));
    for (const name of others) row.append(element("td", written(numberOf(name, pair), valueOf(name).unit), "number"));
    row.addEventListener("click", () => {
      shownPair.pinned = true;
      select(view.at[i], view.at[j], "pin");
      $("explore").scrollIntoView({ block: "start" });
    });
    return row;
  }));
}

// The sections of the analysis that are about what is shown.
function showParts() {
  const parts = [...document.querySelectorAll(".part")];
  for (const part of parts) {
    const curves = part.dataset.curve.split(", ");
    const own = facts.places.some((one) => one.split === part.dataset.split);
    part.hidden = !curves.includes(state.curve) || (own && part.dataset.split !== state.split);
  }
}
