"""MLflow's pages of a sweep, opened by `raymc ui`, in a real browser: what a person sees first is there."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator

import pytest

from raymc.store import layout
from raymc.sweep.check import trials_by_key
from raymc.sweep.view import make_tracker, sweep_view

pytestmark = pytest.mark.filterwarnings("ignore:::playwright")
MINIMA = ("seed=1 order=1", "seed=1 order=2", "seed=2 order=1", "seed=2 order=2")


@pytest.fixture(scope="module")
def served(hills, start, tmp_path_factory) -> Iterator[str]:
    """The address that `raymc ui` prints of a sweep of four minima; Ctrl-C ends it with exit code 0."""
    storage = tmp_path_factory.mktemp("ui") / "store"
    sweep = hills(storage, orders=2, curves=("linear",), splits=("validation",))
    points = trials_by_key(sweep.spec)
    for key in points:  # what training leaves of a minimum, without its weights
        with sweep.store.create(layout.MINIMA, key) as folder:
            body = {"seconds": {"total": 2.0}, "device": "cpu", "workers": 1, "commit": "", "versions": {}}
            (folder / layout.PROVENANCE).write_text(json.dumps(body))
            (folder / layout.TRAINING_CURVE).write_text('{"step": 1, "loss": 0.7}\n{"step": 2, "loss": 0.5}\n')
    make_tracker(sweep.spec, sweep.store, None).sync(sweep_view(sweep, points))
    process = start("ui", "hills", "--storage", storage, "--no-browser")
    try:
        address = process.stdout.readline().strip()
        assert address, process.communicate()[1]
        yield address
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def page(browser, served):
    """A page, whose `troubles` are errors that aren't MLflow's own, and requests that leave the machine."""
    home = served.split("/#")[0]
    page = browser.new_page(viewport={"width": 1600, "height": 900})
    troubles: list[str] = []

    def told(message) -> None:
        own = message.location.get("url", "").startswith(home)
        if message.type == "error" and not own and "ResizeObserver" not in message.text:
            troubles.append(message.text)

    def asked(request) -> None:
        if not request.url.startswith((home, "blob:", "data:", "about:")):
            troubles.append(f"asked for {request.url}")

    page.on("console", told)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", asked)
    page.troubles = troubles
    yield page
    page.close()


def test_what_a_person_sees_first(served, page, tmp_path):
    from playwright.sync_api import expect

    expect.set_options(timeout=20_000)

    # the sweep's own page: what was found, where to look on, few numbers
    page.goto(served)
    expect(page.get_by_role("heading", name="hills")).to_be_visible()
    expect(page.get_by_text("4 minima, 6 pairs").first).to_be_visible()
    expect(page.get_by_role("link", name="Minima as a table")).to_be_visible()
    for metric in ("barrier_mean", "barrier_max", "pairs_with_barrier"):
        expect(page.get_by_role("link", name=metric, exact=True)).to_be_visible()
    expect(page.get_by_role("link", name=re.compile("^seed=1 order=1"))).to_be_visible()
    page.screenshot(path=tmp_path / "sweep.png")

    # the report, within MLflow's artifact view
    home = served.split("#")[0]  # links of a description open in a tab of their own
    page.goto(home + (page.get_by_role("link", name="Report", exact=True).get_attribute("href") or ""))
    report = page.frame_locator("iframe")
    expect(report.get_by_role("heading", name="hills")).to_be_visible()
    report.locator("html[data-ready]").wait_for()
    expect(report.locator("#matrix .heatmaplayer image")).to_be_visible()
    expect(report.locator("#pair-facts dd").first).to_be_visible()
    page.screenshot(path=tmp_path / "report.png")

    # the minima as a table, with the columns that tell most
    page.goto(served)
    page.goto(home + (page.get_by_role("link", name="Minima as a table").get_attribute("href") or ""))
    for name in MINIMA:
        expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()
    expect(page.get_by_text("barrier_mean").first).to_be_visible()
    expect(page.get_by_text("validation/loss").first).to_be_visible()
    page.screenshot(path=tmp_path / "table.png")

    # a minimum
    page.get_by_role("link", name="seed=2 order=2", exact=True).click()
    expect(page.get_by_text("Mean barrier to the other minima")).to_be_visible()
    expect(page.get_by_text(re.compile("^grammar-village")).first).to_be_visible()
    page.screenshot(path=tmp_path / "minimum.png")

    # the minima as models
    page.goto(re.sub(r"/runs.*", "/models?workflowType=machine_learning", served))
    for name in MINIMA:
        expect(page.get_by_role("link", name=f"hills {name}", exact=True)).to_be_visible()
    page.screenshot(path=tmp_path / "models.png")
    assert page.troubles == []
