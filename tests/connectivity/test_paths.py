"""Paths other than the straight one, through the evaluator, against state dicts mixed by hand."""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from raymc.connectivity.evaluator import Evaluator
from raymc.connectivity.work import EndpointTask, PairTask
from raymc.landscape.barriers import entezari
from raymc.specs.errors import CorruptArtefact, RaymcError
from raymc.specs.results import Profile
from raymc.store.store import Store
from raymc.tasks.rows import read_rows
from raymc.training.curve_fit import fit_curve
from raymc.training.parallel import Group

LABELS = ("neg", "pos")
T = (0.0, 0.25, 0.5, 0.75, 1.0)
State = dict[str, torch.Tensor]


@pytest.fixture
def ends(store, keys) -> tuple[str, str]:
    a, b = sorted(keys["full"])[:2]
    return a, b


def states(store: Store, ends: tuple[str, str]) -> tuple[State, State]:
    a, b = (load_file(store.folder("minima", key) / "model.safetensors") for key in ends)
    return a, b


@pytest.fixture
def naive(sweep, store, ends) -> Callable[[State], float]:
    """naive(state): mean loss of transformers' model with these weights over the test rows, one by one."""
    folder = store.folder("minima", ends[0])
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer, rows = AutoTokenizer.from_pretrained(folder), read_rows(sweep().task, "test")

    def score(state: State) -> float:
        model.load_state_dict(state)
        losses = []
        for text, label in zip(rows.text, rows.labels, strict=True):
            with torch.no_grad():
                out = model(**tokenizer(text, return_tensors="pt"), labels=torch.tensor([LABELS.index(label)]))
            losses.append(out.loss.item())
        return math.fsum(losses) / len(losses)

    return score


def join(worker: Evaluator, task: PairTask) -> Profile:
    found = {key: worker.endpoint(EndpointTask(key, task.space, task.splits))[0] for key in (task.a, task.b)}
    (profile,) = worker.pair(task, {task.splits[0]: (found[task.a], found[task.b])})
    return profile


@pytest.fixture
def along(store, ends, connections, trials, evaluator) -> Callable[..., tuple[Profile, PairTask]]:
    """along({"curve": ...}): the profile on the test rows, and its task."""

    def score(curve: Any, **options: Any) -> tuple[Profile, PairTask]:
        found = connections(store, {key: trials[key] for key in ends}, curves=[curve], splits=["test"], rows=False)
        (task,) = found.missing_pairs(set(ends))[0]
        task = PairTask(*ends, task.space, task.curve, task.splits, task.heads, task.how, task.fit, points=5)
        return join(evaluator(store, **options), task), task

    return score


def mixed(weights: tuple[float, ...], *anchors: State) -> State:
    return {n: sum(w * one[n].double() for w, one in zip(weights, anchors, strict=True)).float() for n in anchors[0]}


# A part of the weights -----------------------------------------------------------------------------------------------


def is_attention(name: str) -> bool:
    return ".attention." in name and "LayerNorm" not in name


PARTS: dict[str, tuple[dict[str, Any], Callable[[str], bool]]] = {
    "attention": ({"moves": ["attention"]}, is_attention),
    "block 1": ({"layers": [1]}, lambda name: ".layer.1." in name),
    "attention of block 0": ({"moves": ["attention"], "layers": [0]}, lambda n: ".layer.0." in n and is_attention(n)),
    "head and norms": ({"moves": ["head", "norms"]}, lambda n: n.startswith("classifier") or "LayerNorm" in n),
}


@pytest.mark.parametrize("rest", ["a", "b"])
@pytest.mark.parametrize("part", PARTS)
def test_the_part_that_moves_goes_from_a_to_b(store, ends, along, naive, part: str, rest: str):
    settings, goes = PARTS[part]
    a, b = states(store, ends)
    stays = a if rest == "a" else b
    assert 0 < sum(map(goes, a)) < len(a)
    profile, task = along({"curve": "linear", "rest": rest, **settings})
    assert task.known == ((rest == "a", rest == "b"),)
    for t, loss in zip(profile.t, profile.loss, strict=True):
        half = mixed((1 - t, t), a, b)
        assert loss == pytest.approx(naive({n: half[n] if goes(n) else stays[n] for n in a}), abs=2e-6)
    moved = math.sqrt(sum(float((a[n].double() - b[n].double()).square().sum()) for n in a if goes(n)))
    assert profile.distance_l2 == pytest.approx(moved, rel=1e-9)
    assert profile.length == pytest.approx([t * moved for t in T], rel=1e-6)


def test_the_ends_of_a_part_hold_the_tensors_of_a_and_b_bit_for_bit(store, ends, along, monkeypatch):
    points: dict[float, State] = {}
    monkeypatch.setattr("raymc.connectivity.evaluator.path_of", recorded(points))
    _, task = along({"curve": "linear", "moves": ["attention"]})
    a, b = states(store, ends)
    for name in a:
        assert torch.equal(points[0.0][name], a[name])
        assert torch.equal(points[1.0][name], b[name] if is_attention(name) else a[name])
        if not is_attention(name):
            assert all(torch.equal(point[name], a[name]) for point in points.values())
    assert task.curve == "linear-attention"


def recorded(points: dict[float, State]) -> Callable[..., Any]:
    """path_of, and a copy of the model's tensors at each point that is written."""
    from raymc.connectivity.paths import path_of

    def wrapped(task: Any, model: Any, *others: Any) -> Any:
        path = path_of(task, model, *others)
        for t in T:
            path.curve.point(t, model.flat)
            points[t] = {name: tensor.detach().clone() for name, tensor in model.model.state_dict().items()}
        return path

    return wrapped


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"layers": [2]}, "curve.layers: no block 2 (there are 0, 1)"),
        ({"moves": ["head"], "layers": [0]}, "curve.moves: no interpolated tensor is of head in block 0"),
    ],
)
def test_a_part_that_there_is_not(along, settings: dict[str, Any], words: str):
    with pytest.raises(RaymcError) as caught:
        along({"curve": "spherical", **settings})
    assert words in str(caught.value)


# Spherical -----------------------------------------------------------------------------------------------------------


def test_a_spherical_path_is_that_of_the_formula(store, ends, along, naive):
    a, b = states(store, ends)
    x, y = (torch.cat([one[n].double().flatten() for n in a]) for one in (a, b))
    angle = torch.arccos(x @ y / x.norm() / y.norm()).item()
    profile, task = along("spherical")
    assert task.known == ((True, True),)
    for t, loss in zip(profile.t, profile.loss, strict=True):
        weights = (math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle))
        assert loss == pytest.approx(naive(mixed(weights, a, b)), abs=2e-6)
    straight, _ = along("linear")
    assert profile.loss[::4] == straight.loss[::4]
    assert profile.length[-1] > profile.distance_l2 == straight.distance_l2
    assert straight.length[-1] == pytest.approx(straight.distance_l2, rel=1e-6)


# Aligned -------------------------------------------------------------------------------------------------------------


def turned(state: State) -> State:
    """A BERT of two blocks with two heads of 8, in the other order, and its 32 neurons turned round."""
    heads, neurons = [*range(8, 16), *range(8)], list(range(31, -1, -1))
    found = dict(state)
    for name, tensor in state.items():
        if any(f".self.{part}." in name for part in ("query", "key", "value")):
            found[name] = tensor[heads].contiguous()
        elif name.endswith("attention.output.dense.weight"):
            found[name] = tensor[:, heads].contiguous()
        elif ".intermediate.dense." in name:
            found[name] = tensor[neurons].contiguous()
        elif name.endswith("output.dense.weight") and ".layer." in name:
            found[name] = tensor[:, neurons].contiguous()
    return found


def replaced(store: Store, key: str, change: Callable[[State], State]) -> None:
    """The minimum, as if it had been trained to other weights."""
    old = store.folder("minima", key).rename(store.root / f"old-{key}")
    with store.create("minima", key) as folder:
        for path in old.iterdir():
            if path.name != "MANIFEST.json":
                shutil.copy(path, folder)
        state = change(load_file(folder / "model.safetensors"))
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_permuted_copy_is_no_barrier_away_once_aligned(store, ends, along):
    a, _ = states(store, ends)
    replaced(store, ends[1], lambda _: turned(a))
    straight, _ = along("linear")
    assert straight.loss[0] == pytest.approx(straight.loss[-1], abs=1e-5)
    assert entezari(straight.t, straight.loss) > 0.01
    aligned, task = along("aligned")
    assert task.known == ((True, False),)
    assert entezari(aligned.t, aligned.loss) < 1e-5
    assert aligned.loss[-1] == pytest.approx(straight.loss[-1], abs=1e-5)
    assert aligned.distance_l2 < 1e-6 < straight.distance_l2
    heads, _ = along({"curve": "aligned", "permute": ["heads"]})
    assert aligned.distance_l2 < heads.distance_l2 < straight.distance_l2


def test_an_aligned_path_scores_its_own_end(store, ends, along, naive):
    """It is no minimum of the store, but computes what b does."""
    profile, _ = along("aligned")
    assert profile.loss[-1] == pytest.approx(naive(states(store, ends)[1]), abs=1e-5)
    straight, _ = along("linear")
    assert profile.distance_l2 <= straight.distance_l2


# Fitted --------------------------------------------------------------------------------------------------------------

BEND: dict[str, Any] = {"curve": "bezier", "fit": {"steps": 3, "learning_rate": 0.05, "batch_size": 6}}


@pytest.fixture
def fit(store, ends, connections, trials) -> Callable[[dict[str, Any]], str]:
    """fit(curve): its key, and it is in the store."""

    def make(curve: dict[str, Any]) -> str:
        found = connections(store, {key: trials[key] for key in ends}, curves=[curve])
        ((a, b, title),) = found.missing_fits(set(ends))
        fitting = found.fitting(a, b, title)
        fit_curve(fitting, store, Group(), checkpoint_every=0, log_every=3, report=lambda _: None)
        assert found.missing_fits(set(ends)) == []
        return fitting.key

    return make


def anchors(store: Store, ends: tuple[str, str], key: str) -> list[State]:
    """a, the bends in order, b."""
    a, b = states(store, ends)
    file = load_file(store.folder("curves", key) / "curve.safetensors")
    bends: dict[str, State] = {}
    for name, tensor in file.items():
        number, _, rest = name.partition(":")
        bends.setdefault(number, {})[rest] = tensor
    return [a, *(bends[number] for number in sorted(bends)), b]


@pytest.mark.parametrize("bends", [1, 2])
def test_a_bezier_path_goes_over_the_bends_in_the_store(store, ends, fit, along, naive, bends: int):
    curve = {**BEND, "bends": bends}
    key = fit(curve)
    profile, task = along(curve)
    points = anchors(store, ends, key)
    assert (task.fit, profile.fit) == (key, store.weights_digest("curves", key))
    assert (profile.curve, profile.chosen_on) == ("bezier-2" if bends == 2 else "bezier", "")
    n = bends + 1
    for t, loss in zip(profile.t, profile.loss, strict=True):
        weights = tuple(math.comb(n, i) * (1 - t) ** (n - i) * t**i for i in range(n + 1))
        assert loss == pytest.approx(naive(mixed(weights, *points)), abs=2e-6)
    straight, _ = along("linear")
    assert profile.loss[::4] == straight.loss[::4]
    assert abs(profile.loss[2] - straight.loss[2]) > 1e-4
    assert profile.length[-1] > profile.distance_l2 == straight.distance_l2


def test_labels_in_another_order_are_those_of_the_bends_too(store, fit, along, tokens):
    """The file has the head's rows in the order of the task that the curve was fitted on."""
    fit(BEND)
    turned = {split: dataclasses.replace(part, labels=1 - part.labels) for split, part in tokens.items()}
    straight, _ = along(BEND)
    swapped, _ = along(BEND, labels=("pos", "neg"), tokens=turned)
    assert straight.loss == pytest.approx(swapped.loss, rel=1e-6)


def test_a_curve_chosen_on_a_split_says_so(fit, along):
    curve = {**BEND, "fit": {**BEND["fit"], "select": "validation", "select_every": 1}}
    fit(curve)
    assert along(curve)[0].chosen_on == "validation"


def test_a_fit_between_other_weights_is_stale(store, ends, fit, along):
    key = fit(BEND)
    replaced(store, ends[0], lambda state: {name: 1.1 * tensor for name, tensor in state.items()})
    with pytest.raises(CorruptArtefact, match="fitted between other weights") as caught:
        along(BEND)
    assert (caught.value.kind, caught.value.key) == ("curves", key)


@pytest.mark.parametrize("name", ["curve.safetensors", "curve.json"])
def test_a_damaged_fit_is_found(store, fit, along, name: str):
    key = fit(BEND)
    path: Path = store.folder("curves", key) / name
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(bytes(content))
    later = time.time() + 1000
    os.utime(path.with_name("MANIFEST.json"), (later, later))
    with pytest.raises(CorruptArtefact) as caught:
        along(BEND)
    assert (caught.value.kind, caught.value.key) == ("curves", key)


def test_a_curve_that_was_never_fitted(along):
    with pytest.raises(RaymcError, match="its bezier curve isn't fitted"):
        along(BEND)
