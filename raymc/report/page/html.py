"""The page as one HTML document."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from raymc.report.page.data import Tables, as_json, facts_and_blocks
from raymc.report.page.library import VERSION, library
from raymc.report.page.tables import Part, minima_table
from raymc.report.page.words import Found, sentence
from raymc.report.records import records

_AS_THEY_ARE = (
    *("name", "description", "lead", "parts", "no_analysis", "warnings", "failures", "provenance", "floor", "per"),
    *("spec", "version", "made"),
)
_SCRIPTS = ("numbers", "matrix", "pair", "lists", "downloads", "main")  # in this order


@dataclass(frozen=True)
class Content:
    """All that a page says. `lead`: how much there is; `no_analysis`: why there are no `parts`, else empty."""

    name: str
    description: str
    tables: Tables
    lead: str
    found: Sequence[Found]
    metrics: Sequence[str]
    parts: Sequence[Part] = ()
    no_analysis: str = ""
    warnings: Sequence[str] = ()
    failures: Sequence[Mapping[str, str]] = ()
    provenance: Sequence[tuple[str, str]] = ()
    floor: str = ""
    per: str = "example"
    spec: str = ""
    version: str = ""
    made: str = ""


def document(content: Content) -> str:
    """HTML that needs nothing else. Names and texts are escaped; scripts other than the page's own can't run."""
    import jinja2

    tables = content.tables
    has_matrix = bool(tables.places)
    context: dict[str, Any] = {}
    scripts: list[str] = []
    if has_matrix:
        facts, blocks = facts_and_blocks(tables)
        rows = records(tables.minima)
        columns = [str(name) for name in tables.minima.columns]
        facts |= {"name": content.name, "table": {"columns": columns, "lines": [list(row.values()) for row in rows]}}
        source, packed = library()
        scripts = [_script(), source]
        context = {
            "facts": _raw(as_json(facts)),
            "blocks": [(name, _raw(block.text)) for name, block in blocks.items()],
            "library": _raw(packed),
            "script": _raw(scripts[0]),
        }
    first = tables.clusters.get(tables.places[0], {}) if has_matrix else {}
    environment = jinja2.Environment(autoescape=True, trim_blocks=False, undefined=jinja2.StrictUndefined)
    template = environment.from_string(_text("page.html"))
    return template.render(
        {
            "policy": _policy(scripts),
            "style": _raw(_text("page.css")),
            "has_matrix": has_matrix,
            "found": content.found,
            "sentences": [sentence(one) for one in content.found[:1]],
            "with_clusters": any(one.clusters is not None for one in content.found),
            "minima": minima_table(tables.minima, tables.splits, content.metrics, first),
            "plotly": VERSION,
            **{name: getattr(content, name) for name in _AS_THEY_ARE},
            **context,
        }
    )


def _policy(scripts: Sequence[str]) -> str:
    """Of what a page may do: run these scripts and no others, and ask nobody for anything."""
    allowed = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in scripts
    )
    return (
        f"default-src 'none'; script-src {allowed or chr(39) + 'none' + chr(39)}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _script() -> str:
    parts = "\n".join(_text(f"script/{name}.js") for name in _SCRIPTS)
    return f'"use strict";\n(() => {{\n{parts}}})();'


@cache
def _text(name: str) -> str:
    return files("raymc.report.page").joinpath(name).read_text(encoding="utf-8")


def _raw(text: str) -> Any:
    """What is the page's own, or can't hold anything but letters and digits."""
    import markupsafe

    return markupsafe.Markup(text)
