"""What an export is: its folder, its provenance, and its scores beside those of what it was made of."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raymc.specs.errors import RaymcError
from raymc.specs.keys import key_of
from raymc.store import layout
from raymc.sweep.workbench import Workbench

if TYPE_CHECKING:
    import pandas as pd

    from raymc.sweep.workbench import Pointing, Scoring

_LOSS = "mean cross-entropy in nats per row (text targets: per target token) over all rows of the split; no dropout"
_WORDS = {
    "accuracy": "fraction of rows whose label is given",
    "f1_macro": "F1 averaged over the labels",
    "calibration_error": "expected calibration error, a fraction",
    "likelihood_": "of the label whose text is likeliest: ",
    "generation_": "of the label whose text greedy decoding gives exactly: ",
}


@dataclass(frozen=True)
class Exported:
    """`folder`: what was written. `provenance`: what its raymc.json says.

    `table`: the export's row, then one an ingredient: what, name, key, coefficient, and SPLIT_loss (nats) and
    SPLIT_METRIC (fractions) of each row set.
    """

    folder: Path
    provenance: dict[str, Any]
    table: pd.DataFrame

    @property
    def notes(self) -> list[str]:
        """What a reader of the figures should know, a line each."""
        return self.provenance["notes"]


@dataclass(frozen=True)
class Chosen:
    """What to export, before it is scored. `owner`: the minimum whose labels and tokenizer it has."""

    what: dict[str, Any]
    space: str
    owner: str
    coefficients: Mapping[str, float]
    score: Scoring
    point: Pointing | None  # None: the minimum's own folder
    chosen_on: str | None
    notes: list[str]


def write(
    bench: Workbench, chosen: Chosen, folder: Path, report: Sequence[str] | None
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Score it and write the folder: (its raymc.json, the table)."""
    import pandas as pd

    from raymc.tasks.export import copy_minimum, write_point, write_provenance
    from raymc.training.provenance import commit_of_raymc, versions

    splits = [split for split in bench.splits(chosen.owner) if report is None or split in (*report, chosen.chosen_on)]
    if missing := [split for split in report or () if split not in splits]:
        raise RaymcError(f"{bench.names[chosen.owner]} has other labels than row set {missing[0]}")
    reported = [split for split in splits if split != chosen.chosen_on]
    notes = list(chosen.notes)
    if chosen.chosen_on and not reported:
        notes.append(f"the only figures are on {chosen.chosen_on}, which it was chosen on: they are optimistic")
    elif chosen.chosen_on:
        notes.append(f"figures on {chosen.chosen_on}, which it was chosen on, are optimistic")
    if weak := [bench.names[key] for key in chosen.coefficients if key in bench.sweep.weak()]:
        notes.append(f"below the floor: {', '.join(weak)}")
    if bench.connections.precision != "fp32":
        notes.append("scored in fp32, as it is written; the sweep's own figures are in another precision")
    labels = bench.made(chosen.owner).labels if bench.classifies else ()
    scores = {split: chosen.score(split) for split in splits}
    metrics = list(next(iter(scores.values())).metrics)
    ingredients = {key: bench.scores(key, splits, metrics) for key in chosen.coefficients}
    if chosen.point is None:
        copy_minimum(bench.store, chosen.owner, folder)
    else:
        source = bench.store.folder(layout.MINIMA, chosen.owner)
        write_point(chosen.point(labels), folder, source, labels)
    notes += _adapter_notes(bench, chosen, folder)
    body = {
        **chosen.what,
        "space": chosen.space,
        "ingredients": [
            {
                "key": key,
                "name": bench.names[key],
                "weights": bench.store.weights_digest(layout.MINIMA, key),
                "coefficient": weight,
                "scores": _readable(ingredients[key]),
            }
            for key, weight in chosen.coefficients.items()
        ],
        "labels": list(labels),
        "chosen_on": chosen.chosen_on,
        "reported_on": reported,
        "scores": _readable({split: {"loss": s.loss, **s.metrics} for split, s in scores.items()}),
        "definitions": {"loss": _LOSS, **{name: _in_words(name) for name in metrics}},
        "notes": notes,
        "sweep": bench.sweep.name,
        "storage": bench.store.uri,
        "spec": key_of(bench.spec.model_dump(mode="json")),
        "versions": versions(),
        "commit": commit_of_raymc(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    rows = [("export", "export", "", math.nan, {s: {"loss": one.loss, **one.metrics} for s, one in scores.items()})]
    rows += [("ingredient", bench.names[k], k, w, ingredients[k]) for k, w in chosen.coefficients.items()]
    table = pd.DataFrame(
        [
            {"what": what, "name": name, "key": key, "coefficient": weight}
            | {f"{split}_{name}": found[split][name] for split in splits for name in ("loss", *metrics)}
            for what, name, key, weight, found in rows
        ]
    )
    return write_provenance(folder, body), table


def _adapter_notes(bench: Workbench, chosen: Chosen, folder: Path) -> list[str]:
    """What it takes to open a folder that holds no whole model."""
    from raymc.tasks.folders import adapter_config, is_whole

    if is_whole(folder):
        return []
    config = adapter_config(folder)
    notes = [f"an adapter: it stands on the backbone {config.get('base_model_name_or_path')}"]
    if config["peft_type"] == "HOULSBY":
        notes.append("peft has no such adapters: raymc opens the folder, as a minimum of a sweep (minima: uri)")
    if bench.trials[chosen.owner].model.perturbation is not None:
        notes.append("that backbone was perturbed before it was tuned, which only the sweep's own spec can do again")
    return notes


def _readable(found: dict[str, dict[str, float]]) -> dict[str, dict[str, float | None]]:
    """For JSON, which has no NaN."""
    return {s: {name: None if math.isnan(v) else v for name, v in one.items()} for s, one in found.items()}


def _in_words(metric: str) -> str:
    prefix = next((one for one in ("likelihood_", "generation_") if metric.startswith(one)), "")
    return (_WORDS[prefix] if prefix else "") + _WORDS.get(metric.removeprefix(prefix), metric)
