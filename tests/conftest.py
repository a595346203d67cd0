"""What all tests share."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Before anything loads numpy or torch, and for all processes that tests start. Several test processes share the cores:
# threads of a small product only wait for each other there, at four times the CPU.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile(
    "raymc",
    deadline=None,
    database=None,
    max_examples=60,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],  # on a busy machine
)
settings.load_profile("raymc")

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The datasets that lie beside the repository, for tests on real text."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the datasets in {SHARED}, which is not there")
    return SHARED


@pytest.fixture(scope="session")
def on_one_thread() -> Iterator[None]:
    """torch on one thread, and the libraries quiet."""
    import torch

    from raymc.tasks import backbones

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    backbones.quiet()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Path]:
    """make_dataset("name", train=8, validation=4) writes a folder of JSONL splits of so many rows with two labels."""

    def make(name: str = "dataset", **rows: int) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        for split, count in (rows or {"train": 8, "validation": 4, "test": 4}).items():
            lines = (
                json.dumps(
                    {"text": f"{split} sentence {i} is {('good', 'bad')[i % 2]}", "label": ("pos", "neg")[i % 2]}
                )
                for i in range(count)
            )
            (folder / f"{split}.jsonl").write_text("".join(f"{line}\n" for line in lines))
        return folder

    return make


@pytest.fixture(scope="session")
def _s3_server() -> Iterator[Any]:
    spec = importlib.util.spec_from_file_location("s3_server", Path(__file__).parent / "services" / "s3.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    server = module.S3().start()
    server.make_bucket("bucket")
    yield server
    server.stop()


@pytest.fixture
def s3(_s3_server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A real S3-protocol server on loopback with a bucket named bucket; its credentials are in the environment."""
    for name, value in _s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return _s3_server


QUIET_BROWSER = [
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-quic", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]


@dataclass
class Tab:
    """A page in a real browser. `complaints`: errors and warnings of its console; `requests`: every URL asked for."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium, without a screen, driven by playwright."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("needs Chromium, which is not there (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=program, args=QUIET_BROWSER)
        yield found
        found.close()


@pytest.fixture
def open_tab(browser: Any) -> Iterator[Callable[..., Tab]]:
    """open_tab(url, color_scheme="dark", viewport={...}) opens it in a profile of its own and keeps what it does."""
    contexts = []

    def go(url: str | Path, **options: Any) -> Tab:
        context = browser.new_context(**{"viewport": {"width": 1400, "height": 1000}, **options})
        contexts.append(context)
        tab = Tab(context.new_page())
        tab.page.on("console", lambda one: one.type in ("error", "warning") and tab.complaints.append(one.text))
        tab.page.on("pageerror", lambda error: tab.complaints.append(str(error)))
        tab.page.on("request", lambda request: tab.requests.append(request.url))
        tab.page.goto(url.as_uri() if isinstance(url, Path) else url)
        return tab

    yield go
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def hills() -> Callable[..., Any]:
    """hills(storage, orders=3, ...): a finished sweep of known barriers, made without training; see tests/hills.py."""
    spec = importlib.util.spec_from_file_location("hills", Path(__file__).parent / "hills.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.hills
