"""`raymc report` on sweeps of known barriers: what the page and the figure hold, whatever a sweep is called."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from raymc.cli import main
from raymc.specs.errors import RaymcError
from raymc.sweep.report import digest, page, picture

NASTY = "</script><script>alert(1)</script><img src=x onerror=alert(2)> \"'&{{7*7}} <!-- %}"


class Scripts(HTMLParser):
    """Elements and attributes as a browser would see them."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.kinds: list[str | None] = []
        self.handlers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        if tag == "script":
            self.kinds.append(dict(attrs).get("type"))


def test_nothing_in_a_spec_becomes_markup(hills, tmp_path: Path):
    failures = ({"kind": "pair", "name": NASTY, "reason": NASTY, "key": "k"},)
    sweep = hills(tmp_path, orders=2, description=NASTY, failures=failures)
    text = page(sweep)
    found = Scripts(text)
    assert "img" not in found.tags
    assert not found.handlers
    assert found.kinds.count(None) == 1  # the page's own; the rest is data
    assert "{{7*7}}" in text


def test_a_page_asks_for_nothing(hills, tmp_path: Path):
    text = page(hills(tmp_path, orders=2), analysis=False)
    head = html.unescape(text[: text.index("<style>")])
    assert "default-src 'none'" in head
    assert "unsafe-inline'; img" in head
    assert "script-src 'sha256-" in head
    assert not re.search(r"<(link|script|img|iframe)[^>]+(src|href)=\"(?!data:)", text)


def test_the_first_screen_says_what_was_found(hills, tmp_path: Path):
    text = page(hills(tmp_path, splits=("validation",)))
    assert "6 minima, 15 pairs, 2 curves, 5 points along each path." in text
    assert "On the linear path (validation split), 6 of 15 pairs are connected" in text
    assert "The minima form 2 clusters" in text or "The minima form 1 cluster" in text
    highest = max(0.5 + 0.01 * (i + j) + 0.001 * (i * j % 7) for i in range(3) for j in range(3, 6))
    assert f"{highest:.4f} nats (95 % interval {highest / 2:.4f} to {highest * 1.5:.4f})" in text


def test_incomplete_sweeps_say_so(hills, tmp_path: Path):
    failures = ({"kind": "pair", "name": "order=1 - order=2", "reason": "out of memory", "key": "k"},)
    text = page(hills(tmp_path, missing=((0, 1), (0, 2)), weak=(4,), failures=failures), analysis=False)
    assert "This sweep is not complete" in text
    assert "out of memory" in text
    assert "5 further pairs have an end below the floor" in text


def test_a_sweep_without_pairs_has_a_page(hills, tmp_path: Path):
    sweep = hills(tmp_path, orders=1, missing=((0, 1),))
    text = page(sweep)
    assert "2 minima, 0 pairs." in text
    assert "<script" not in text
    with pytest.raises(RaymcError, match="no pair"):
        picture(sweep, tmp_path / "x.png")


def test_the_digest_follows_the_numbers_not_the_place(hills, tmp_path: Path):
    one, other = hills(tmp_path / "one", orders=2), hills(tmp_path / "other", orders=2)
    third = hills(tmp_path / "third", orders=2, missing=((0, 1),))
    assert digest(one) == digest(other) != digest(third)


@pytest.mark.parametrize(("suffix", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_figures_for_papers(hills, tmp_path: Path, suffix: str, magic: bytes):
    file = tmp_path / f"matrix.{suffix}"
    done = picture(hills(tmp_path / "store", orders=2, weak=(1,)), file, value="cosine")
    assert file.read_bytes().startswith(magic)
    assert done == {"path": str(file), "bytes": file.stat().st_size}


def test_the_verb(hills, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    hills(tmp_path / "store", orders=2)
    target, figure = tmp_path / "report.html", tmp_path / "matrix.svg"
    place = ["--storage", str(tmp_path / "store")]
    assert main(["report", "hills", *place, "-o", str(target), "--png", str(figure), "--json"]) == 0
    written = json.loads(capsys.readouterr().out)["written"]
    assert [(one["what"], one["path"], one["bytes"]) for one in written] == [
        ("figure", str(figure), figure.stat().st_size),
        ("page", str(target), target.stat().st_size),
    ]
    for bad in (["--png", "x.gif"], ["-o", str(tmp_path / "no" / "x.html")], ["--png", "x.png", "--value", "height"]):
        assert main(["report", "hills", *place, *bad]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_analysis_is_made_unasked_up_to_more_minima_where_no_rows_are_read(hills, tmp_path: Path, monkeypatch):
    one = hills(tmp_path / "one", orders=2, curves=("linear",))
    several = hills(tmp_path / "several", orders=2)
    monkeypatch.setattr("raymc.sweep.results.Sweep.analyze", lambda self: [])
    monkeypatch.setattr("raymc.sweep.report.ROWS_READ", 3)  # of 4 minima
    said = "Not computed: with 4 minima"
    assert [said in page(sweep) for sweep in (one, several)] == [False, True]
    monkeypatch.setattr("raymc.sweep.report.ANALYSED", 3)
    assert [said in page(sweep, analysis=asked) for sweep, asked in ((one, None), (one, True))] == [True, False]
