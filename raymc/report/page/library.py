"""plotly.js, which draws a page's figures: its cartesian bundle, a third of the whole, so that a page opens quickly.

It lies in `plotly/` as the npm package plotly.js-cartesian-dist-min has it (MIT, see the LICENSE beside it). To renew
it: `npm pack plotly.js-cartesian-dist-min@VERSION`, copy the script and the LICENSE, state both constants below.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from raymc.report.page.packing import compressed

VERSION = "4.1.1"
SHA256 = "79542150855a52c567260e3137095dbe2b744e6d702a5cabe67da246942fba7a"  # of the script


@cache
def library() -> tuple[str, str]:
    """The script as it is, and as a page carries it."""
    source = files("raymc.report.page").joinpath("plotly", "plotly-cartesian.min.js").read_bytes()
    return source.decode(), compressed(source)
