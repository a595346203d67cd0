"""How far a run is, from the lines that it prints where there is no terminal."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

_STAGE = re.compile(r"(?P<stage>[a-z]+): (?P<done>\d+) of (?P<total>\d+)(?P<rest>, .*| in the store)?")
_FAILED = re.compile(r"failed: (?P<kind>minimum|pair|plane) (?P<what>.*)")
_COUNTS = re.compile(
    r"(?P<stage>[a-z]+): (?P<total>\d+) \((?P<computed>\d+) computed, (?P<reused>\d+) reused, \d+ failed\)"
)
_STEP = re.compile(r"(?P<stage>[a-z]+): (?P<trial>.+): step (?P<step>\d+) of (?P<steps>\d+), loss .*")


@dataclass
class Seen:
    """`stages`: of each stage begun, how many things are done and of how many, in order."""

    stages: dict[str, dict[str, int]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    last: str = ""  # the last line that tells of progress
    tables: str | None = None
    mlflow: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "progress": self.stages,
            "last": self.last,
            "failures": self.failures,
            "tables": self.tables,
            "mlflow": self.mlflow,
        }


def read_log(text: str) -> Seen:
    seen = Seen()
    failures: dict[str, None] = {}
    for line in text.splitlines():
        line = line.rstrip()
        if match := _STAGE.fullmatch(line):
            seen.stages[match["stage"]] = {"done": int(match["done"]), "total": int(match["total"])}
            seen.last = line
        elif _STEP.fullmatch(line):
            seen.last = line
        elif match := _FAILED.fullmatch(line):
            failures[f"{match['kind']} {match['what']}"] = None
        elif line.startswith("tables:  "):
            seen.tables = line.removeprefix("tables:").strip()
        elif line.startswith("MLflow:  "):
            seen.mlflow = line.removeprefix("MLflow:").strip()
        else:
            for part in line.split("; "):
                if match := _COUNTS.fullmatch(part):
                    done = int(match["computed"]) + int(match["reused"])
                    seen.stages[match["stage"]] = {"done": done, "total": int(match["total"])}
    seen.failures = list(failures)
    return seen
