"""The report in a real browser: pointer, keys, switches and downloads, and that it is quick at 200 minima."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raymc.sweep.report import page

READY = "html[data-ready]"
CELL = """([row, column]) => {
  const { left, top } = document.getElementById("matrix").getBoundingClientRect();
  const plot = document.querySelector("#matrix .draglayer .nsewdrag").getBoundingClientRect();
  const count = document.getElementById("matrix").data[0].z.length;
  return [plot.left + (column + 0.5) * plot.width / count, plot.top + (row + 0.5) * plot.height / count];
}"""


@pytest.fixture(scope="module")
def sweep(hills: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return hills(tmp_path_factory.mktemp("hills"), missing=((0, 3),), weak=(5,), description="<b>bold</b> & co")


@pytest.fixture(scope="module")
def file(sweep: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("page") / "report.html"
    target.write_text(page(sweep))
    return target


def cells(tab: Any) -> np.ndarray:
    """The matrix as it is drawn, NaN where there is no value."""
    return np.array(tab.page.evaluate("document.getElementById('matrix').data[0].z"), dtype=float)


def choose(tab: Any, switch: str, value: str) -> None:
    before = tab.page.evaluate("document.documentElement.dataset.shown")
    tab.page.select_option(f"#{switch}", value)
    tab.page.wait_for_function("before => document.documentElement.dataset.shown !== before", arg=before)


def point_at(tab: Any, row: int, column: int) -> None:
    tab.page.mouse.move(*tab.page.evaluate(CELL, [row, column]))
    tab.page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 0)))")


def path(tab: Any) -> tuple[list[float], list[float]]:
    """t and loss of the path that is drawn."""
    line = next(one for one in tab.page.evaluate("document.getElementById('pair').data") if one["name"] == "loss")
    return line["x"], line["y"]


def known(sweep: Any, a: str, b: str, curve: str, split: str) -> list[float]:
    table = sweep.profiles()
    chosen = table[(table["curve"] == curve) & (table["split"] == split) & table["a"].isin([a, b])]
    return chosen[chosen["b"].isin([a, b])].sort_values("t")["loss"].tolist()


def test_pointer_keys_and_switches(sweep: Any, file: Path, open_tab: Callable[..., Any]):
    tab = open_tab(file)
    tab.page.wait_for_selector(READY)
    keys = list(sweep.minima()["key"])

    choose(tab, "order", "sweep")  # rows as in the table of minima
    np.testing.assert_allclose(cells(tab), sweep.matrix("linear", "validation").to_numpy(), rtol=1e-6)
    for switch, value, told in (
        ("curve", "spherical", ("spherical", "validation", "barrier_entezari")),
        ("split", "test", ("spherical", "test", "barrier_entezari")),
        ("group", "Distance", ("spherical", "test", "distance_l2")),
        ("value", "cosine", ("spherical", "test", "cosine")),
        ("group", "Loss", ("spherical", "test", "barrier_entezari")),
        ("value", "t_peak", ("spherical", "test", "t_peak")),
        ("value", "barrier_entezari", ("spherical", "test", "barrier_entezari")),
    ):
        choose(tab, switch, value)
        np.testing.assert_allclose(cells(tab), sweep.matrix(*told).to_numpy(), rtol=1e-6)
        assert told[0] + " path, " + told[1] + " split" in tab.page.inner_text("#definition")

    point_at(tab, 1, 5)
    t, loss = path(tab)
    assert t == [0, 0.25, 0.5, 0.75, 1]
    np.testing.assert_allclose(loss, known(sweep, keys[1], keys[5], "spherical", "test"), atol=1e-6)
    high = sweep.matrix("spherical", "test").iloc[1, 5]
    assert f"{high:.4f} [{high / 2:.4f}, {high * 1.5:.4f}] nats, at t = 0.50" in tab.page.inner_text("#pair-facts")
    point_at(tab, 0, 3)
    assert "no such pair" in tab.page.inner_text("#pair-name")

    x, y = tab.page.evaluate(CELL, [2, 3])
    tab.page.mouse.click(x, y)
    point_at(tab, 1, 4)  # it is pinned: the pointer changes nothing
    np.testing.assert_allclose(path(tab)[1], known(sweep, keys[2], keys[3], "spherical", "test"), atol=1e-6)
    tab.page.keyboard.press("Escape")

    for key in ("ArrowUp", "Home", "ArrowRight"):  # from row 3, column 4 to row 2, column 2
        tab.page.keyboard.press(key)
    assert tab.page.text_content("#spoken") == "Row 2, seed=1 order=2: the same minimum."
    tab.page.keyboard.press("End")
    said = tab.page.text_content("#spoken")
    assert "column 6, seed=2 order=3: Entezari barrier 0." in said
    assert "95 % interval" in said
    np.testing.assert_allclose(path(tab)[1], known(sweep, keys[1], keys[5], "spherical", "test"), atol=1e-6)

    for order in ("cluster", "axis:0", "axis:1", "name"):
        choose(tab, "order", order)
        assert sorted(cells(tab)[np.isfinite(cells(tab))]) == pytest.approx(
            sorted(x for x in sweep.matrix("spherical", "test").to_numpy().ravel() if x == x), rel=1e-6
        )
    choose(tab, "order", "cluster")
    tab.page.check("#floor")
    tab.page.wait_for_function("() => document.getElementById('matrix-note').textContent.includes('6 pairs')")
    assert np.isfinite(cells(tab)).sum() == np.isfinite(sweep.matrix("spherical", "test", floor=True).to_numpy()).sum()

    for _ in range(2):  # rising, then falling
        tab.page.click("#minima th button:text-is('validation loss (nats)')")
    first = tab.page.inner_text("#minima tbody tr:first-child td:first-child")
    assert first == "6"  # the highest loss
    tab.page.click("#pairs tbody tr:nth-child(2)")
    assert "pinned" in tab.page.inner_text("#pinned")
    assert not tab.complaints
    assert tab.requests == [file.as_uri()]


def test_downloads(sweep: Any, file: Path, open_tab: Callable[..., Any]):
    tab = open_tab(file, color_scheme="dark", accept_downloads=True)
    tab.page.wait_for_selector(READY)

    def saved(what: str) -> tuple[str, bytes]:
        with tab.page.expect_download() as coming:
            tab.page.click(f"[data-download={what}]")
        return coming.value.suggested_filename, Path(coming.value.path()).read_bytes()

    for what, table in (("minima", sweep.minima()), ("barriers", sweep.barriers()), ("profiles", sweep.profiles())):
        name, content = saved(f"{what}-csv")
        assert name == f"hills.{what}.csv"
        rows = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
        assert len(rows) == len(table)
        order = [one for one in ("key", "a", "b", "curve", "split", "t") if one in table.columns]
        truth = table.assign(**({"t": table["t"].map("{:g}".format)} if "t" in table else {}))
        truth = truth.sort_values(order, kind="stable").to_dict("records")
        for row, one in zip(sorted(rows, key=lambda row: [row[name] for name in order]), truth, strict=True):
            for column, value in one.items():
                if isinstance(value, float):
                    assert float(row[column]) == pytest.approx(value, rel=1e-6, abs=1e-6)
                elif column in row:
                    assert row[column].lower() == str(value).lower()
    name, content = saved("matrix-svg")
    assert (name, content[:4]) == ("hills.matrix.barrier_entezari.linear.validation.svg", b"<svg")
    text = content.decode()
    assert "Entezari barrier (nats)" in text
    assert "seed=1 order=1" in text
    assert saved("matrix-png")[1].startswith(b"\x89PNG")
    assert saved("pair-svg")[1].startswith(b"<svg")
    assert saved("pair-png")[1].startswith(b"\x89PNG")
    assert not tab.complaints
    assert {url[:5] for url in tab.requests} <= {"file:", "data:", "blob:"}


def test_in_a_sandboxed_frame(file: Path, tmp_path: Path, open_tab: Callable[..., Any]):
    """As MLflow shows an HTML artifact: scripts, but no origin."""
    outer = tmp_path / "outer.html"
    quoted = file.read_text().replace("&", "&amp;").replace('"', "&quot;")
    outer.write_text(
        f'<!doctype html><iframe sandbox="allow-scripts" width=1200 height=900 srcdoc="{quoted}"></iframe>'
    )
    tab = open_tab(outer)
    tab.page.frame_locator("iframe").locator("#pair-facts dd").first.wait_for()
    assert not tab.complaints


def test_two_hundred_minima_open_in_two_seconds(
    hills: Callable[..., Any], tmp_path: Path, open_tab: Callable[..., Any]
):
    sweep = hills(tmp_path / "store", orders=100, curves=("linear",), points=26)
    file = tmp_path / "large.html"
    file.write_text(page(sweep, analysis=False))  # which takes ten seconds to make and opens as fast
    assert file.stat().st_size < 12e6
    opened = []
    while len(opened) < 3 and min(opened, default=1.6) >= 1.6:  # what shares a core makes processor time longer too
        tab = open_tab("about:blank")  # a new one each time: a page that is loaded again has its scripts compiled
        session = tab.page.context.new_cdp_session(tab.page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})  # processor time, as the machine is shared
        tab.page.goto(file.as_uri())
        tab.page.wait_for_selector(READY)
        opened.append(spent(session))
    assert 0 < min(opened) < 1.6, opened  # 0.9 to 1.2; what is left of the two seconds is for a slower machine
    assert "200 minima, 19,900 pairs" in tab.page.inner_text("header")
    times = []
    for step in range(10):
        before, began = spent(session), time.perf_counter()
        point_at(tab, 10 + 7 * step, 150 - 3 * step)
        times.append((spent(session) - before, time.perf_counter() - began))
    assert sorted(one for one, _ in times)[5] < 0.1, times
    assert re.search(r"seed=[12] order=\d+", tab.page.inner_text("#pair-name"))
    before = spent(session)
    choose(tab, "value", "barrier_ainsworth")
    assert spent(session) - before < 1.0
    assert not tab.complaints


def spent(session: Any) -> float:
    """Seconds of processor time that the page's own thread has taken."""
    found = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    return found["TaskDuration"]
