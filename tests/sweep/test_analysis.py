"""Sections of an analysis on tables made by hand: their numbers, and that each says what it is of."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from raymc.connectivity.pairs import Connections
from raymc.report.sections import print_section
from raymc.report.values import VALUES
from raymc.specs.errors import RaymcError
from raymc.specs.results import Evaluation, Profile
from raymc.specs.sweep import Point, SweepSpec
from raymc.store.rows import RowTable, write_rows
from raymc.store.store import Store
from raymc.sweep.results import Sweep, open_sweep, write_sweep
from raymc.sweep.section import Section
from raymc.sweep.tables import assemble
from raymc.tasks.rows import labels_of

ROWS = 40
NUMBERS = {"rows": ROWS, "tokens": 9, "seconds": 0.1, "device": "cpu"}
SST: dict[str, Any] = {"dataset": {"builtin": "grammar", "domain": "village", "train_rows": ROWS}, "max_length": 16}
NLI: dict[str, Any] = {
    "dataset": {"builtin": "grammar", "domain": "court", "train_rows": ROWS},
    "rename": {"friendly": "yes", "hostile": "no"},
    "max_length": 16,
}
T = (0.0, 0.5, 1.0)


def rows(loss: tuple[float, ...], predicted: np.ndarray | None = None, gold: np.ndarray | None = None) -> RowTable:
    """ROWS rows whose mean loss at each point is that; of one point with probabilities, 0.75 for the label given."""
    noise = np.tile([0.25, -0.25], ROWS // 2)
    losses = (np.array(loss)[:, None] + noise).astype(np.float32)
    right = np.zeros((len(loss), ROWS), np.int16) if predicted is None else predicted.astype(np.int16)
    truth = np.zeros(ROWS, np.int16) if gold is None else gold.astype(np.int16)
    shares = None
    if len(loss) == 1:
        shares = np.full((ROWS, 2), 0.25, np.float32)
        shares[np.arange(ROWS), right[0]] = 0.75
    of_row = (np.arange(ROWS, dtype=np.int32), truth, np.ones(ROWS, np.int32))
    return RowTable(T if len(loss) == 3 else (0.0,), *of_row, losses, right, shares, ("x", "y"))


Loss = Callable[[Point, Point, str, str], tuple[float, ...]]
Accuracy = Callable[[Point, Point, str], tuple[float, ...]]


def made(spec: SweepSpec, store: Store, loss: Loss, accuracy: Accuracy, table: Callable[..., RowTable]) -> Sweep:
    """A sweep with a record of everything. `table`: the rows of (a, None, split) and of (a, b, split, loss)."""
    store.prepare()
    points = {point.trial.key: point for point in spec.points}
    for key in points:
        with store.create("minima", key) as folder:
            (folder / "model.safetensors").write_bytes(key.encode())
    found = Connections(spec, store, points, labels_of)
    weights = {key: store.weights_digest("minima", key) for key in points}
    for a, b, curve in found.missing_fits(set(points)):
        with store.create("curves", found.fit_key(a, b, curve)) as folder:
            (folder / "curve.json").write_text(json.dumps({"a_weights": weights[a], "b_weights": weights[b]}))
            (folder / "curve.safetensors").write_bytes(b"bend")
    for task in found.missing_endpoints(set(points))[0]:
        for split, group in zip(task.splits, task.groups, strict=True):
            body = {"minimum": task.key, "weights": weights[task.key], "split": split, "loss": 1.0}
            body |= {"metrics": {"accuracy": 0.75, "f1_macro": 0.5, "calibration_error": 0.125}}
            body |= {"row_file": write_rows(store, group, task.key, table(points[task.key], None, split))}
            found.put(Evaluation.model_validate({**NUMBERS, **body}))
    for task in found.missing_pairs(set(points))[0]:
        ends = points[task.a], points[task.b]
        for split, head, group in zip(task.splits, task.heads, task.groups, strict=True):
            heights = loss(*ends, task.curve, split)
            body = {"a": task.a, "b": task.b, "a_weights": weights[task.a], "b_weights": weights[task.b]}
            body |= {"curve": task.curve, "space": task.space, "split": split, "t": T, "loss": heights}
            body |= {"head": {"path": "path", "a": task.a, "b": task.b}[head], "distance_l2": 2 + heights[1]}
            body |= {"fit": store.weights_digest("curves", task.fit) if task.fit else "", "cosine": 0.5}
            high = heights[1] > 1.25
            body |= {"length": (0, 1, 2), "p_value": 0.001 if high else 0.5}
            body |= {"intervals": {"barrier_entezari": (0.25 * high, heights[1])}}
            shared = {"agreement_a": (1, 0.5, 0.25), "agreement_b": (0.25, 0.5, 1), "calibration_error": (0.1,) * 3}
            shared |= {"jensen_shannon_a": (0, 0.1, 0.2), "jensen_shannon_b": (0.2, 0.1, 0), "f1_macro": (0,) * 3}
            body |= {"metrics": {"accuracy": accuracy(*ends, split), **shared}}
            body |= {"row_file": write_rows(store, group, f"{task.a}-{task.b}", table(*ends, split, heights))}
            found.put(Profile.model_validate({**NUMBERS, **body}))
    assert found.missing_endpoints(set(points)) == found.missing_pairs(set(points)) == ([], [])
    tables, _, _ = assemble(found, points)
    write_sweep(store, spec, tables, {"minima": {}, "pairs": {}}, [])
    return open_sweep(spec.name, storage=store.uri)


# One task, two curves -------------------------------------------------------------------------------------------------

HIGH = {"linear": 0.5, "bezier": 0.0625}  # nats between minima of unlike heads; 1/64 between others, on validation


def height(a: Point, b: Point, curve: str, split: str) -> tuple[float, ...]:
    apart = a.trial.seeds.head != b.trial.seeds.head
    # a little unlike for every pair, so that no two are quite the same
    wiggle = 1e-4 * ((a.trial.seeds.order * 7 + b.trial.seeds.order * 3) % 5)
    peak = HIGH[curve] if apart else -1 / 64 if split == "test" else 1 / 64
    return (1.0, 1.0 + peak + wiggle, 1.0)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Eight minima: four orders of two heads. Heads part them; paths between unlike heads have a barrier."""
    spec = SweepSpec.model_validate(
        {
            "name": "heads",
            "model": {"backbone": {"builtin": "grammar-bert"}},
            "task": SST,
            "train": {"steps": 10},
            "axes": {"seeds.order": [1, 2, 3, 4], "seeds.head": [1, 2]},
            "connectivity": {"points": 3, "splits": ["validation", "test"], "curves": ["linear", "bezier"]},
        }
    )

    def table(a: Point, b: Point | None, split: str, loss: tuple[float, ...] = (1.0,)) -> RowTable:
        return rows(loss)

    return made(spec, Store(tmp_path_factory.mktemp("store")), height, lambda *_: (0.75, 0.5, 0.75), table)


@pytest.fixture(scope="module")
def sections(sweep: Sweep) -> list[Section]:
    return sweep.analyze()


CLEAR = {  # columns and figures that say what they are by themselves
    *("a", "b", "differs", "cluster", "clusters", "labels", "minima", "members", "factor", "linear", "bezier"),
    *("pairs_same", "pairs_differ", "mean_same", "mean_differ", "r2", "r2_given_distance", "p_given_distance"),
    *("value", "pairs", "distance", "missing", "permutations", "exact", "seed", "significant_linear", "accuracy_gain"),
    *("low", "high"),
}


def of(sections: list[Section], name: str, curve: str = "linear", split: str = "validation") -> Section:
    (found,) = [one for one in sections if (one.name, one.curve, one.split) == (name, curve, split)]
    return found


def test_what_is_asked_of_each_curve_and_row_set(sections: list[Section]):
    of_matrix = ["barriers", "clusters", "tree", "factors"]
    each = [(name, curve, split) for curve in HIGH for split in ("validation", "test") for name in of_matrix]
    each += [("best", curve, "chosen on validation, reported on test") for curve in HIGH]
    each += [("compared", "linear, bezier", split) for split in ("validation", "test")]
    assert sorted((one.name, one.curve, one.split) for one in sections) == sorted(each)
    assert {one.space for one in sections} == {"weights"}


def test_every_section_says_what_its_numbers_are_of(sections: list[Section], sweep: Sweep, capsys):
    """Title, curve, space and split in the first line, the definition below it; in JSON the same by name."""
    for section in sections:
        assert section.table is not None, section.notes
        assert len(section.definition) > 20
        print_section(section, sweep.names(), 3)
        first, *rest = capsys.readouterr().out.splitlines()
        place = f"{section.curve} path, space of {section.space}, {section.split} split"
        assert first == f"{section.title}: {place}"
        text = " ".join(line.strip() for line in rest)
        for line in (*section.definition.split("\n"), *section.notes):
            assert " ".join(line.split())[:150] in " ".join(text.split())
        body = json.loads(json.dumps(section.as_dict(), allow_nan=False))
        assert {"title", "definition", "curve", "split", "space"} < set(body)
        assert len(body["table"]) == len(section.table)
        told = f"{section.title} {section.definition} {' '.join(section.notes)}".replace("_", " ")
        for name in (*section.figures, *(section.shown or section.table.columns)):
            assert name in CLEAR or name.replace("_", " ") in told or name.removeprefix("loss_") in told, name
    shown = [key for key in sweep.names() if key in " ".join(str(one.table) for one in sections)]
    assert shown  # the tables have keys, and a terminal shows names:
    print_section(sections[0], sweep.names(), 3)
    out = capsys.readouterr().out
    assert not any(key in out for key in shown)
    assert "the first 3 of 28 lines; --rows 28 or --json has all" in out


def test_barriers_highest_first(sections: list[Section]):
    section = of(sections, "barriers")
    for name in ("barrier_entezari", "barrier_frankle", "barrier_ainsworth", "convexity_gap", "saddle"):
        assert f"{name}: {VALUES[name][2]} ({VALUES[name][1]})" in section.definition
    found = section.table["barrier_entezari"].to_numpy()
    assert len(found) == 28
    assert (np.diff(found) <= 0).all()
    assert (section.figures["pairs"], section.figures["left_out"], section.figures["significant"]) == (28, 0, 16)
    assert section.figures["barrier_max"] == found[0] == pytest.approx(0.5, abs=1e-3)
    assert section.figures["barrier_mean"] == pytest.approx((16 * 0.5 + 12 / 64) / 28, abs=1e-3)
    assert of(sections, "barriers", split="test").table["better"].tolist() == [0] * 16 + [1] * 12


def test_clusters_are_those_of_the_heads(sections: list[Section], sweep: Sweep):
    section = of(sections, "clusters")
    heads = sweep.minima().set_index("key")["seeds.head"].to_dict()
    assert section.figures["clusters"] == 2
    assert section.figures["p_value"] < 0.05
    assert section.figures["within"] == pytest.approx(1 / 64, abs=1e-3)
    assert section.figures["between"] == pytest.approx(0.5, abs=1e-3)
    labels = section.figures["labels"]
    assert all((labels[a] == labels[b]) == (heads[a] == heads[b]) for a in heads for b in heads)
    assert section.table["minima"].tolist() == [4, 4]
    members = {frozenset(line.split(", ")) for line in section.table["members"]}
    names = sweep.names()
    assert members == {frozenset(names[key] for key in heads if heads[key] == head) for head in (1, 2)}
    assert section.title == "Clusters by Entezari barrier (nats)"
    assert section.definition == VALUES["barrier_entezari"][2]


def test_the_tree_goes_between_the_heads_once(sections: list[Section]):
    section = of(sections, "tree")
    assert len(section.table) == 7
    assert (section.table["value"] > 1.25).sum() == 1
    assert section.figures["highest_pass"] == section.table["value"].max() == pytest.approx(1.5, abs=1e-3)
    assert VALUES["saddle"][2] in section.definition


def test_the_factor_that_matters_is_the_head(sections: list[Section]):
    section = of(sections, "factors")
    table = section.table.set_index("factor")
    assert table.loc["seeds.head", "effect"] == pytest.approx(0.5 - 1 / 64, abs=1e-3)
    assert table.loc["seeds.head", "p_value"] < 0.05
    assert abs(table.loc["seeds.order", "effect"]) < 1e-3
    assert section.figures["pairs"] == 28
    assert section.title == "Which factor matters: Entezari barrier (nats)"
    assert "multiple regression on distance matrices" in section.notes[0]


def test_points_are_chosen_on_one_row_set_and_reported_on_another(sections: list[Section]):
    """The middle is no better than the ends on validation, whatever it is on the test rows."""
    section = of(sections, "best", split="chosen on validation, reported on test")
    assert len(section.table) == 28
    assert (section.table["loss_gain"] == 0).all()
    assert set(section.table["t"]) <= {0.0, 1.0}


def test_curves_are_compared_pair_by_pair(sections: list[Section]):
    section = of(sections, "compared", curve="linear, bezier")
    table = section.table
    assert section.figures["pairs"] == 28
    assert section.figures["significant_linear"] == 16
    assert section.figures["ratio_median"] == pytest.approx(1 / 8, abs=1e-3)
    assert section.figures["ratio_max"] == pytest.approx(1 / 8, abs=1e-3)
    apart = table[table["linear"] > 0.25]
    assert apart["difference"].to_numpy() == pytest.approx(np.full(16, 1 / 16 - 1 / 2), abs=1e-6)
    # the noise of a row is the same on both curves, so what differs has none
    assert apart["low"].to_numpy() == pytest.approx(apart["difference"].to_numpy(), abs=1e-5)
    assert apart["high"].to_numpy() == pytest.approx(apart["difference"].to_numpy(), abs=1e-5)
    assert (apart["p_difference"] < 0.05).all()
    barriers = of(sections, "barriers").table.set_index(["a", "b"])["p_holm"]
    assert table.set_index(["a", "b"])["p_holm_linear"].to_dict() == barriers.to_dict()


def test_curves_without_rows_are_not_compared(sweep: Sweep, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sweep.connections, "profile", lambda *_: None)
    section = of(sweep.analyze(split="test"), "compared", curve="linear, bezier", split="test")
    assert section.notes[0].startswith("not computed: rows of both are there for none of 28 pairs")
    assert (section.table, section.space) == (None, "weights")


def test_one_curve_and_row_set_alone(sweep: Sweep):
    found = sweep.analyze("bezier", "test", "saddle")
    assert {(one.name, one.curve) for one in found if one.name != "best"} == {
        (name, "bezier") for name in ("barriers", "clusters", "tree", "factors")
    }
    assert {one.split for one in found if one.name != "best"} == {"test"}
    (clusters,) = [one for one in found if one.name == "clusters"]
    assert (clusters.title, clusters.definition) == ("Clusters by saddle (nats)", VALUES["saddle"][2])


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("bezer", None, "saddle"), "sweep heads has no curve 'bezer' (it has linear, bezier)"),
        (("linear", "dev", "saddle"), "sweep heads has no split 'dev' (it has validation, test)"),
        (("linear", None, "sadle"), "sweep heads has no value 'sadle'"),
        (("linear", None, "t_peak"), "analyze: t_peak is a place on the path"),
    ],
)
def test_what_a_sweep_does_not_have(sweep: Sweep, asked: tuple[Any, ...], words: str):
    with pytest.raises(RaymcError) as caught:
        sweep.analyze(*asked)
    assert str(caught.value).startswith(words)


def test_what_is_alike_makes_no_clusters_and_a_distance_does_not_explain_itself(sweep: Sweep):
    found = {one.name: one for one in sweep.analyze("linear", "test", "agreement_ends")}
    assert found["clusters"].notes[0].startswith("not computed: clusters: more of agreement_ends is nearer")
    found = {one.name: one for one in sweep.analyze("linear", "test", "distance_l2")}
    assert found["factors"].table["factor"].tolist() == ["seeds.order", "seeds.head"]


# Two tasks ------------------------------------------------------------------------------------------------------------

SPLITS = ("validation", "train")
HARD = np.arange(ROWS) < 10  # rows of each task's training split that its early snapshot gets wrong


def is_nli(point: Point) -> bool:
    return bool(point.trial.task.rename)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Two snapshots of a run on each of two tasks. From NLI to SST the one is lost late, the other won early."""
    spec = SweepSpec.model_validate(
        {
            "name": "tasks",
            "model": {"backbone": {"builtin": "grammar-bert"}},
            "task": SST,
            "train": {"steps": 10},
            "axes": {"task": [NLI, SST], "train.snapshot": [5, None]},
            "connectivity": {"points": 3, "splits": list(SPLITS), "tasks": {"nli": NLI, "sst": SST}},
        }
    )

    def right(point: Point, split: str) -> np.ndarray:
        """What a minimum gets right of its own training rows: all at the end, but for the hard ones before it."""
        return ~HARD if point.trial.train.snapshot else np.ones(ROWS, bool)

    def table(a: Point, b: Point | None, split: str, loss: tuple[float, ...] = (1.0,)) -> RowTable:
        if b is None:
            return rows(loss, ~right(a, split)[None])
        if is_nli(a) == is_nli(b):
            return rows(loss)
        solved = np.ones((3, ROWS), bool)
        if split.startswith("nli"):  # from the NLI end: hard rows are forgotten half-way, the others at the end
            solved[1], solved[2] = ~HARD, False
        else:
            solved[0], solved[1] = False, ~HARD
        return rows(loss, ~(solved if is_nli(a) else solved[::-1]))

    def accuracy(a: Point, b: Point, split: str) -> tuple[float, ...]:
        if is_nli(a) == is_nli(b):
            return (0.75, 0.75, 0.75)
        values = (0.8, 0.8, 0.4) if split.startswith("nli") else (0.5, 0.9, 0.9)
        return values if is_nli(a) else values[::-1]

    return made(spec, Store(tmp_path_factory.mktemp("store")), lambda *_: (1.0, 1.5, 1.0), accuracy, table)


def test_where_one_task_gives_way_to_the_other(two: Sweep):
    (section,) = [one for one in two.analyze() if one.name == "crossings"]
    assert (section.curve, section.split, section.space) == ("linear", "the two tasks' own", "weights")
    assert "t_cross: where both tasks' accuracy" in section.definition
    points = two.connections.points
    assert len(section.table) == 4
    for _, row in section.table.iterrows():
        assert is_nli(points[row["a"]])  # all the same way, whichever key is smaller
        # scaled: nli 1, 1, 0 and sst 0, 1, 1: they meet at t = 1/2; half of nli is left at 3/4, of sst there at 1/4
        assert row["t_cross"] == pytest.approx(0.5)
        assert (row["t_half_source"], row["t_half_target"]) == pytest.approx((0.75, 0.25))
        assert (row["source_split"], row["target_split"]) == ("nli.validation", "sst.validation")


def test_what_is_forgotten_and_learned(two: Sweep, capsys):
    found = {one.name: one for one in two.analyze() if one.name.startswith("knowledge")}
    assert set(found) == {"knowledge", "knowledge_trends"}
    section = found["knowledge"]
    assert (section.curve, section.split, section.space) == ("linear", "nli.train to sst.train", "weights")
    assert "over 2 snapshots of training" in section.definition
    table = section.table.set_index(["set", "k"])
    assert table["rows"].to_dict() == {
        ("forgotten", 1): 10,
        ("forgotten", 2): 30,  # the hard rows first
        ("learned", 1): 30,
        ("learned", 2): 10,  # and last
    }
    # a hard row has 0.25 and then 0.75 for its gold label, the others 0.75 twice
    hard = table.loc[[("forgotten", 1), ("learned", 2)]]
    assert hard["confidence"].tolist() == pytest.approx([0.5, 0.5])
    assert hard["variability"].tolist() == pytest.approx([0.25, 0.25])
    easy = table.loc[[("forgotten", 2), ("learned", 1)]]
    assert easy["confidence"].tolist() == pytest.approx([0.75, 0.75])
    assert easy["variability"].tolist() == pytest.approx([0, 0])
    assert set(table["pairs"]) == {1}  # of the four paths between snapshots of the same two runs
    print_section(section, two.names(), 10)
    assert "nli.train to sst.train split" in capsys.readouterr().out


def test_what_can_not_be_computed_says_why(two: Sweep, capsys):
    """Four minima, but two runs: snapshots of one are no independent minima."""
    sections = {(one.name, one.split): one for one in two.analyze("linear", "nli.validation")}
    clusters = sections["clusters", "nli.validation"]
    assert clusters.table is None
    assert clusters.notes == ("not computed: clusters: 2 runs; it takes three or more",)
    assert sections["factors", "nli.validation"].notes[0].startswith("not computed: factor effects: 2 minima")
    assert clusters.as_dict()["table"] is None
    print_section(clusters, two.names(), 3)
    out = capsys.readouterr().out
    assert out.startswith("Clusters: linear path, space of weights, nli.validation split\n")
    assert VALUES["barrier_entezari"][2] in out
    assert sections["barriers", "nli.validation"].figures["pairs"] == 4


def test_knowledge_needs_snapshots_and_training_rows(two: Sweep, sweep: Sweep):
    assert not any(one.name.startswith("knowledge") for one in sweep.analyze("linear"))
    assert math.isnan(two.minima()["sst.train_loss"][0])  # each is scored with its own labels alone
