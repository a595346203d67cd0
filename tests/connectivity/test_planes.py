"""Planes of tiny minima: losses against explicit weights, what is missing before and after, curves, and faults."""

from __future__ import annotations

import itertools
import json
import pickle
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from raymc.connectivity.heads import Heads
from raymc.connectivity.plane_scores import find_traces, score_line
from raymc.connectivity.planes import LineTask, Planes, plane_faults, shared_space
from raymc.connectivity.selection import Selection
from raymc.connectivity.work import EndpointTask
from raymc.landscape.planes import grid
from raymc.specs.errors import RaymcError
from raymc.specs.planes import PlaneLine
from raymc.specs.sweep import SweepSpec
from raymc.specs.task import TaskSpec
from raymc.store.store import Store
from raymc.tasks.bends import save_bends

# peft asks transformers for something that transformers is about to rename
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def plane(through: list[str], **fields: Any) -> dict[str, Any]:
    return {"through": through, "points": 3, "margin": 0.0, **fields}


@pytest.fixture
def planes(connections, keys, trials):
    """planes(store, plane, ...): of a sweep with the three full minima."""

    def make(store: Store, *asked: dict[str, Any], names: tuple[str, ...] = ("full",), **connectivity: Any) -> Planes:
        known = {key: trials[key] for name in names for key in keys[name]}
        return Planes(connections(store, known, **{"planes": asked, "splits": ["validation", "test"], **connectivity}))

    return make


def placed(corners: tuple[tuple[float, float], ...], lines: dict[int, PlaneLine]) -> dict[int, float]:
    """By corner: the loss of the grid's point that is that corner exactly, where there is one."""
    return {
        number: line.loss[line.x.index(x)]
        for number, (x, y) in enumerate(corners)
        for line in lines.values()
        if line.y == y and x in line.x
    }


# Scores ---------------------------------------------------------------------------------------------------------------


def test_the_loss_is_that_of_explicit_weights_and_at_a_corner_that_of_the_minimum(master, keys, evaluator, planes):
    store, through = master[0], keys["full"]
    tasks, corrupt = planes(store, plane(through, splits=["validation", "test"])).missing_lines(set(through))
    assert [task.line for task in tasks] == [0, 1, 2]
    assert not corrupt
    found = evaluator(store)
    lines = {task.line: score_line(found, pickle.loads(pickle.dumps(task))) for task in tasks}
    assert found.loads == 3
    for number, (first, second) in lines.items():
        assert (first.split, second.split, first.rows, second.rows) == ("validation", "test", 13, 7)
        assert (first.line, first.through, first.space, first.head) == (number, tuple(through), "weights", "path")
        assert first.weights == tuple(store.weights_digest("minima", key) for key in through)
        assert first.corners == second.corners
        assert len(first.x) == len(first.loss) == len(first.metrics["accuracy"]) == 3
    validation = {number: pair[0] for number, pair in lines.items()}
    # Exactly the endpoint's, at every corner that is a point of the grid
    corners = validation[0].corners
    ends = [found.endpoint(EndpointTask(key, "weights", ("validation",)))[0].loss for key in through]
    known = placed(corners, validation)
    assert {0, 1} <= known.keys()
    assert all(ends[number] == loss for number, loss in known.items())
    # Elsewhere, of the paper's basis applied to the files' tensors
    states = [load_file(store.folder("minima", key) / "model.safetensors") for key in through]
    a, b, c = ({name: tensor.double() for name, tensor in state.items()} for state in states)

    def dot(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
        return sum((one[name] * other[name]).sum().item() for name in one)

    def less(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], times: float) -> dict[str, torch.Tensor]:
        return {name: tensor - times * other[name] for name, tensor in one.items()}

    u, w = less(b, a, 1.0), less(c, a, 1.0)
    v = less(w, u, dot(w, u) / dot(u, u))
    long, high = dot(u, u) ** 0.5, dot(v, v) ** 0.5
    xs, ys = grid(corners, 3, 0.0)
    model = AutoModelForSequenceClassification.from_pretrained(store.folder("minima", through[0])).eval()
    scorer = found.scorer(through[0], "validation")
    for x, (number, line) in itertools.product(xs, validation.items()):
        mixed = less(less(a, u, -x / long), v, -ys[number] / high)
        model.load_state_dict({name: tensor.float() for name, tensor in mixed.items()})
        assert line.loss[xs.index(x)] == pytest.approx(scorer(model).loss, abs=2e-6)
    assert len({loss for line in validation.values() for loss in line.loss}) == 9


def test_a_plane_through_full_and_lora_minima_is_of_merged_weights(master, keys, evaluator, planes):
    through = [*keys["full"][:2], keys["lora"][0]]
    found = planes(master[0], plane(through, points=2), names=("full", "lora"))
    assert [one.space for one in found.grids] == ["delta_w"]
    scores = evaluator(master[0])
    lines = {task.line: score_line(scores, task)[0] for task in found.missing_lines(set(through))[0]}
    ends = [scores.endpoint(EndpointTask(key, "delta_w", ("validation",)))[0].loss for key in through]
    known = placed(lines[0].corners, lines)
    assert known
    assert [ends[number] for number in known] == pytest.approx(list(known.values()), abs=1e-6)


def test_three_joined_in_unlike_spaces_share_that_of_merged_weights():
    assert shared_space(["weights"] * 3) == "weights"
    assert shared_space(["factors"] * 3) == "factors"
    assert shared_space(["weights", "delta_w", "delta_w"]) == "delta_w"
    assert shared_space(["factors", "delta_w", "delta_w"]) == "delta_w"


def test_a_minimum_twice_has_no_plane(master, keys, evaluator):
    a, b = keys["full"][:2]
    with pytest.raises(RaymcError, match="on one line"):
        score_line(evaluator(master[0]), LineTask((a, b, a), "weights", ("validation",), 3, 0.0, 0))


def test_three_that_read_text_differently_are_refused():
    unlike: Any = SimpleNamespace(labels=lambda split: (), scorer=lambda key, split: key)
    with pytest.raises(RaymcError, match="different tokenizers"):
        score_line(unlike, LineTask(("a", "b", "c"), "weights", ("validation",), 3, 0.0, 0))


# What is missing ------------------------------------------------------------------------------------------------------


def line(planes: Planes, task: LineTask, split: str) -> PlaneLine:
    store = planes._store
    body: dict[str, Any] = dict(zip("abc", task.through, strict=True))
    body |= {f"{name}_weights": store.weights_digest("minima", body[name]) for name in "abc"}
    body |= {
        "corners": ((0, 0), (2, 0), (1, 1)),
        "split": split,
        "space": task.space,
        "line": task.line,
        "y": task.line,
    }
    body |= {"rows": 3, "tokens": 9, "x": (0, 1, 2), "loss": (1, 2, 3), "metrics": {"accuracy": (0, 0.5, 1)}}
    return PlaneLine.model_validate({**body, "seconds": 0.1, "device": "cpu"})


def test_only_lines_that_are_not_there_are_to_do(store: Store, keys, planes):
    through = keys["full"]
    asked = plane(through, splits=["validation", "test"])
    found = planes(store, asked, plane(through[::-1], points=4))
    assert [one.name for one in found.grids] == ["plane-1", "plane-2"]
    assert found.missing_lines(set(through[:2])) == ([], [])  # a minimum is still to be trained
    tasks, _ = found.missing_lines(set(through))
    assert len(tasks) == 3 + 4
    assert found.forward_passes(set(through)) == (2 * 9 + 16, 2 * 9 + 16)
    assert found.forward_passes(set()) == (2 * 9 + 16, 2 * 9 + 16)
    for task, split in ((tasks[0], "validation"), (tasks[0], "test"), (tasks[1], "test")):
        found.put(line(found, task, split), task)
    again = planes(store, asked, plane(through[::-1], points=4))
    left, _ = again.missing_lines(set(through))
    assert [(task.line, task.splits) for task in left[:2]] == [(1, ("validation",)), (2, ("validation", "test"))]
    assert left[2:] == tasks[3:]
    assert again.forward_passes(set(through)) == (2 * 9 - 3 * 3 + 16, 2 * 9 + 16)
    assert [one.line for one in again.lines(again.grids[0], "test")] == [0, 1]
    # Another grid, another precision and another margin are other planes
    for others in ({"points": 5}, {"margin": 0.1}):
        assert len(planes(store, {**asked, **others}).missing_lines(set(through))[0]) == others.get("points", 3)
    assert len(planes(store, asked, precision="bf16").missing_lines(set(through))[0]) == 3
    # The same plane by another name is scored once
    assert len(planes(store, asked, {**asked, "name": "again"}).missing_lines(set(through))[0]) == 2


def test_a_line_that_is_damaged_or_of_other_weights_is_done_again(store: Store, keys, planes):
    through = keys["full"]
    found = planes(store, plane(through))
    task = found.missing_lines(set(through))[0][0]
    whole = line(found, task, "validation")
    found.put(whole.model_copy(update={"b_weights": "other"}), task)
    assert found.line(found.grids[0], "validation", 0) is None
    found.put(whole, task)
    assert found.line(found.grids[0], "validation", 0) == whole
    path = next((store.root / "planes").glob(f"*/{'-'.join(through)}-0.json"))
    path.write_text(path.read_text().replace('"tokens": 9', '"tokens": 8'))
    tasks, corrupt = found.missing_lines(set(through))
    assert [task.line for task in tasks] == [0, 1, 2]
    assert len(corrupt) == 1
    assert not path.exists()


# Curves ---------------------------------------------------------------------------------------------------------------


def fitted(found: Planes, store: Store, evaluator: Any, a: str, b: str, bend: str) -> str:
    """A Bezier between two minima whose bend is a third one, as a fit would leave it; its key."""
    key = found._connections.fit_key(a, b, "bezier")
    kind, model = evaluator.opened(a, "weights", ("neg", "pos"))
    vector, _ = evaluator.vector(kind, model, bend, ("neg", "pos"))
    weights = {f"{name}_weights": store.weights_digest("minima", end) for name, end in (("a", a), ("b", b))}
    with store.create("curves", key) as folder:
        save_bends(model, [vector], folder)
        body = {**weights, "a": a, "b": b, "at": None, "bends": 1, "labels": ["neg", "pos"]}
        (folder / "curve.json").write_text(json.dumps(body))
    return key


def test_curves_are_found_over_the_plane_once_they_are_there(store: Store, keys, planes, evaluator):
    through = keys["full"]
    a, b, c = through

    def make() -> Planes:
        return planes(store, plane(through), curves=["linear", {"curve": "bezier", "fit": {"steps": 2}}])

    found, scores = make(), evaluator(store)
    tasks, _ = found.missing_traces(set(through))
    assert [[(one.a, one.b, one.curve) for one in task.curves] for task in tasks] == [
        [(a, b, "linear"), (a, c, "linear"), (b, c, "linear")]
    ]
    for trace in find_traces(scores, store, pickle.loads(pickle.dumps(tasks[0]))):
        found.put(trace, tasks[0])
    assert make().missing_traces(set(through)) == ([], [])
    key = fitted(found, store, scores, a, b, bend=c)
    tasks, _ = make().missing_traces(set(through))
    assert [[(one.curve, one.fit) for one in task.curves] for task in tasks] == [[("bezier", key)]]
    (bezier,) = find_traces(scores, store, tasks[0])
    found.put(bezier, tasks[0])
    traces = {(one.curve, one.start, one.end): one for one in make().traces(found.grids[0])}
    assert len(traces) == 4
    assert make().missing_traces(set(through)) == ([], [])
    # In the plane all of them: the linear ones straight, the other by Bezier's formula from the three corners
    corners = np.array(score_line(scores, found.missing_lines(set(through))[0][0])[0].corners)
    t = np.linspace(0, 1, 26)[:, None]
    for (start, end), curve in (((0, 1), "linear"), ((1, 2), "linear"), ((0, 1), "bezier")):
        one = traces[curve, through[start], through[end]]
        expected = (1 - t) * corners[start] + t * corners[end]
        if curve == "bezier":
            expected = (1 - t) ** 2 * corners[0] + 2 * t * (1 - t) * corners[2] + t**2 * corners[1]
        assert np.column_stack([one.x, one.y]) == pytest.approx(expected, abs=1e-6)
        assert max(one.off) < 1e-6
        assert one.fit == (store.weights_digest("curves", key) if curve == "bezier" else "")
    # A curve that is fitted anew is looked for anew
    store.set_aside("curves", key)
    fitted(found, store, scores, a, b, bend=b)
    tasks, _ = make().missing_traces(set(through))
    assert [one.curve for task in tasks for one in task.curves] == ["bezier"]


def test_only_selected_pairs_have_curves_over_the_plane(master, keys, planes):
    a, b, c = keys["full"]
    found = planes(master[0], plane([a, b, c]), pairs={"only": [[a, c]]})
    assert list(found.curves(found.grids[0])) == [(a, c, "linear")]


# Faults ---------------------------------------------------------------------------------------------------------------

LABELS = {"sst": ("neg", "pos"), "nli": ("no", "yes", "maybe")}
NLI = {"dataset": {"builtin": "grammar", "domain": "harbour"}, "labels": [*LABELS["nli"]], "max_length": 16}
SST = {"dataset": {"builtin": "grammar"}, "labels": [*LABELS["sst"]], "max_length": 16}


def faults(*asked: dict[str, Any], connectivity: Any = None, **sections: Any) -> list[tuple[str, str]]:
    body: dict[str, Any] = {
        "name": "some",
        "model": {"backbone": {"builtin": "grammar-bert"}},
        "task": SST,
        "train": {"steps": 10},
        "axes": {"seeds.order": [0, 1, 2]},
        "connectivity": {"planes": asked, **(connectivity or {})},
        **sections,
    }
    spec = SweepSpec.model_validate(body)

    def labels_of(task: TaskSpec) -> tuple[str, ...] | None:
        return task.labels

    found = plane_faults(spec, Selection(spec, spec.points), Heads(spec, spec.points, labels_of))
    return [(".".join(map(str, place)), message) for place, message in found]


ORDERS = [{"seeds.order": order} for order in range(3)]


def test_a_plane_that_can_be_scored_has_no_fault():
    assert faults({"through": ORDERS}, {"through": ORDERS[::-1], "splits": ["validation"]}) == []


def test_ends_that_there_are_not_or_twice_are_said():
    first, second = faults({"through": [*ORDERS[:2], {"seeds.order": 5}]}, {"through": [*ORDERS[:2], ORDERS[0]]})
    assert first[0] == "connectivity.planes.0.through.2"
    assert "no minimum is {seeds.order: 5}" in first[1]
    assert second == ("connectivity.planes.1.through", "order=0 is named twice; a plane takes three minima")


def test_row_sets_that_there_are_not_are_said():
    (found,) = faults({"through": ORDERS, "splits": ["validatoin"]})
    assert found[0] == "connectivity.planes.0.splits"
    assert found[1].startswith("no row set 'validatoin' (there are validation)")


def test_minima_with_other_labels_are_said():
    axes = {"task": [SST, NLI], "seeds.order": [0, 1]}
    tasks = {"tasks": {"nli": NLI, "sst": SST}}
    through = [{"task": SST, "seeds.order": 0}, {"task": SST, "seeds.order": 1}, {"task": NLI, "seeds.order": 0}]
    found = faults({"through": through, "splits": ["sst.validation"]}, connectivity=tasks, axes=axes)
    assert [place for place, _ in found] == ["connectivity.planes.0.splits"]
    assert "has other labels than sst.validation" in found[0][1]
    assert [place for place, _ in faults({"through": through}, connectivity=tasks, axes=axes)] == [
        "connectivity.planes.0"
    ]


def test_minima_that_nothing_joins_are_said():
    axes = {"tuning": [{"method": "full"}, {"method": "houlsby"}], "seeds.order": [0, 1]}
    through = [{"tuning": {"method": "full"}, "seeds.order": order} for order in (0, 1)]
    (found,) = faults({"through": [*through, {"tuning": {"method": "houlsby"}, "seeds.order": 0}]}, axes=axes)
    assert found[0] == "connectivity.planes.0.through"
    assert "can't be joined" in found[1]
