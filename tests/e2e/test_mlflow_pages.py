"""MLflow's pages of a real sweep, opened by `raymc ui`, in a real browser: what a person sees first is there."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
pytestmark = [
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="needs chromium, which is not here"),
    pytest.mark.filterwarnings("ignore:::playwright"),
]
MINIMA = [f"tiny order={i}" for i in (1, 2, 3)]


@pytest.fixture(scope="module")
def served(raymc, start, tiny, tmp_path_factory) -> Iterator[str]:
    """The address that `raymc ui` prints of a sweep of three minima; Ctrl-C ends it with exit code 0."""
    storage = tmp_path_factory.mktemp("ui") / "store"
    done = raymc("run", tiny, "--storage", storage, "--set", "axes={seeds.order: [1, 2, 3]}")
    assert done.code == 0, done.err
    assert f"MLflow:  raymc ui tiny --storage {storage}\n" in done.out
    process = start("ui", "tiny", "--storage", storage, "--no-browser")
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
def page(served):
    """A page, whose `troubles` are errors that aren't MLflow's own, and requests that leave the machine."""
    from playwright.sync_api import sync_playwright

    home = served.split("/#")[0]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
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
        browser.close()


def test_what_a_person_sees_first(served, page, tmp_path):
    from playwright.sync_api import expect

    expect.set_options(timeout=20_000)

    # the sweep's own page: what was found, where to look on, few numbers
    page.goto(served)
    expect(page.get_by_role("heading", name="tiny")).to_be_visible()
    expect(page.get_by_text("3 minima, 3 pairs").first).to_be_visible()
    expect(page.get_by_role("link", name="Minima as a table")).to_be_visible()
    for metric in ("barrier_mean", "barrier_max", "pairs_with_barrier"):
        expect(page.get_by_role("link", name=metric, exact=True)).to_be_visible()
    expect(page.get_by_role("link", name=re.compile("^order=1"))).to_be_visible()
    page.screenshot(path=tmp_path / "sweep.png")

    # the report, within MLflow's artifact view
    home = served.split("#")[0]  # links of a description open in a tab of their own
    page.goto(home + (page.get_by_role("link", name="Report", exact=True).get_attribute("href") or ""))
    report = page.frame_locator("iframe")
    expect(report.get_by_role("heading", name="tiny")).to_be_visible()
    expect(report.locator("canvas, svg").first).to_be_visible()
    page.screenshot(path=tmp_path / "report.png")

    # the minima as a table, with the columns that tell most
    page.goto(served)
    page.goto(home + (page.get_by_role("link", name="Minima as a table").get_attribute("href") or ""))
    for name in ("order=1", "order=2", "order=3"):
        expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()
    expect(page.get_by_text("barrier_mean").first).to_be_visible()
    expect(page.get_by_text("validation/loss").first).to_be_visible()
    page.screenshot(path=tmp_path / "table.png")

    # a minimum
    page.get_by_role("link", name="order=2", exact=True).click()
    expect(page.get_by_text("Mean barrier to the other minima")).to_be_visible()
    expect(page.get_by_text(re.compile("^grammar-village")).first).to_be_visible()
    page.screenshot(path=tmp_path / "minimum.png")

    # the minima as models
    page.goto(re.sub(r"/runs.*", "/models?workflowType=machine_learning", served))
    for name in MINIMA:
        expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()
    page.screenshot(path=tmp_path / "models.png")
    assert page.troubles == []
