"""Means of minima and points of paths against weights that were mixed by hand, and against profiles."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForSequenceClassification
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from raymc.connectivity.mixtures import Ingredient, Mixtures, PathPoint, common_space, shared_labels
from raymc.connectivity.work import PairTask
from raymc.landscape.curves import Linear
from raymc.specs.curves import SphericalCurve
from raymc.specs.errors import RaymcError
from raymc.specs.trial import TrialSpec
from raymc.tasks.minima import Made
from raymc.tasks.rows import read_rows

# peft asks transformers for something that transformers is about to rename
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

LABELS = ("neg", "pos")


def plain(folder: Path) -> Any:
    """A minimum as transformers loads it, or peft with its factors merged."""
    if (folder / "config.json").is_file():
        return AutoModelForSequenceClassification.from_pretrained(folder).eval()
    model: Any = AutoPeftModelForSequenceClassification.from_pretrained(str(folder), num_labels=len(LABELS))
    return model.merge_and_unload().eval()


def mean_of(folders: list[Path], weights: list[float]) -> Any:
    """In float64."""
    states = [plain(folder).state_dict() for folder in folders]
    model = plain(folders[0])
    total = math.fsum(weights)
    mixed = {n: sum(w / total * s[n].double() for w, s in zip(weights, states, strict=True)) for n in states[0]}
    model.load_state_dict({name: tensor.to(states[0][name].dtype) for name, tensor in mixed.items()})
    return model


def by_hand(model: Any, folder: Path, task: Any, split: str) -> tuple[float, float]:
    """Mean loss and accuracy over the rows, one by one and unpadded."""
    tokenizer, rows = AutoTokenizer.from_pretrained(folder), read_rows(task, split)
    losses, hits = [], 0
    for text, label in zip(rows.text, rows.labels, strict=True):
        gold = LABELS.index(label)
        with torch.no_grad():
            out = model(**tokenizer(text, return_tensors="pt"), labels=torch.tensor([gold]))
        losses.append(out.loss.item())
        hits += int(out.logits.argmax()) == gold
    return math.fsum(losses) / len(losses), hits / len(losses)


def mixture(*keys: str) -> list[Ingredient]:
    return [Ingredient(key) for key in keys]


@pytest.mark.parametrize(("methods", "space"), [("full full full", "weights"), ("lora full lora", "delta_w")])
def test_a_mean_scores_as_weights_that_were_mixed_by_hand(master, keys, evaluator, sweep, methods: str, space: str):
    store = master[0]
    some = [keys[method][i] for i, method in enumerate(methods.split())]
    mixed = [Ingredient(key, weight) for key, weight in zip(some, (1.0, 2.5, 0.5), strict=False)]
    folders = [store.folder("minima", key) for key in some]
    model = mean_of(folders, [one.weight for one in mixed])
    for split in ("validation", "test"):
        found = Mixtures(evaluator(store), space).score(mixed, split)
        loss, accuracy = by_hand(model, folders[0], sweep().task, split)
        assert found.loss == pytest.approx(loss, abs=1e-6)
        assert found.metrics["accuracy"] == accuracy


@pytest.mark.parametrize(("method", "space"), [("full", "weights"), ("lora", "delta_w"), ("lora", "factors")])
def test_a_soup_of_two_is_the_midpoint_of_their_path(master, keys, evaluator, method: str, space: str):
    store, (a, b) = master[0], sorted(keys[method])[:2]
    found = evaluator(store)
    soup = Mixtures(found, space).point(mixture(a, b), LABELS).flat.clone()
    kind, model = found.opened(a, space, LABELS)
    out = torch.empty_like(soup)
    Linear(found.vector(kind, model, a, LABELS)[0], found.vector(kind, model, b, LABELS)[0]).point(0.5, out)
    assert torch.equal(soup, out)
    half = PathPoint(found, PairTask(a, b, space, "linear", (), ()), 0.5)
    assert torch.equal(half.point(LABELS).flat, out)
    assert half.score("test") == Mixtures(found, space).score(mixture(a, b), "test")


def test_a_soup_of_one_is_the_minimum_bit_for_bit(master, keys, evaluator):
    found, key = evaluator(master[0]), keys["full"][0]
    flat = Mixtures(found, "weights").point(mixture(key), LABELS).flat
    assert torch.equal(flat, found.vector(*found.opened(key, "weights", LABELS), key, LABELS)[0])


def test_what_all_agree_on_stays_bit_for_bit(master, keys, evaluator):
    """The backbone's embeddings are one for all LoRA minima: no rounding of a mean may move them."""
    found = evaluator(master[0])
    mixed = [Ingredient(key, weight) for key, weight in zip(keys["lora"], (0.1, 0.7, 0.3), strict=True)]
    model = Mixtures(found, "delta_w").point(mixed, LABELS)
    name = "bert.embeddings.word_embeddings.weight"
    expected = plain(master[0].folder("minima", keys["lora"][0])).state_dict()[name]
    assert torch.equal(model.model.state_dict()[name], expected)


def test_steps_of_a_greedy_soup_give_what_fresh_means_give(master, keys, evaluator):
    """Kept means are gone on with, from whichever ingredients stay; each minimum is read once."""
    store, (a, b, c) = master[0], keys["full"]
    one, other = evaluator(store), evaluator(store)
    tasting = Mixtures(one, "weights")
    for step in [(a,), (a, b), (a, c), (a, c, b), (b, c), (a, b, c)]:
        fresh = Mixtures(other, "weights").score(mixture(*step), "test")
        assert tasting.score(mixture(*step), "test") == fresh
    assert one.loads == 3


@pytest.mark.parametrize(("mixed", "said"), [([], "ingredients"), ([("a", 0.0)], "above 0"), ([("a", -1.0)], "above")])
def test_no_mixture(master, evaluator, mixed, said):
    with pytest.raises(ValueError, match=said):
        Mixtures(evaluator(master[0]), "weights").score([Ingredient(*one) for one in mixed], "test")


def test_a_point_of_a_path_scores_as_the_profile_there(master, keys, evaluator):
    store, (a, b) = master[0], sorted(keys["full"])[:2]
    found = evaluator(store)
    for how, name in ((None, "linear"), (SphericalCurve(curve="spherical"), "spherical")):
        more = {} if how is None else {"how": how}
        task = PairTask(a, b, "weights", name, ("test",), ("path",), points=5, **more)
        (profile,) = found.pair(task, {})
        for i, t in enumerate(profile.t):
            point = PathPoint(found, task, t)
            score = point.score("test")
            assert score.loss == pytest.approx(profile.loss[i], abs=1e-7)
            assert score.metrics["accuracy"] == profile.metrics["accuracy"][i]
            weights, fit, chosen_on = point.told(LABELS)
            assert (fit, chosen_on) == ("", "")
            if name == "linear":
                assert weights == (1 - t, t)
    assert weights == pytest.approx((0.0, 1.0))


def test_a_point_with_the_head_of_one_end(master, keys, evaluator):
    """As in the profile with that head; the other end's own head changes nothing."""
    store, (a, b) = master[0], sorted(keys["full"])[:2]
    found = evaluator(store)
    for choice, owner in (("a", a), ("b", b)):
        (profile,) = found.pair(PairTask(a, b, "weights", "linear", ("test",), (choice,), points=5), {})
        for i in (0, 2, 4):
            point = PathPoint(found, PairTask(a, b, "weights", "linear", (), ()), profile.t[i], owner)
            assert point.score("test").loss == pytest.approx(profile.loss[i], abs=1e-7)
            head = plain(store.folder("minima", owner)).state_dict()["classifier.weight"]
            assert torch.equal(point.point(LABELS).model.state_dict()["classifier.weight"], head)


# Which space, which labels -------------------------------------------------------------------------------------------


def trials_of(sweep, *methods: dict[str, Any], **model: Any) -> dict[str, TrialSpec]:
    return {
        (trial := sweep(tuning=how, seeds={"head": seed}).points[0].trial).key: trial
        for seed, how in enumerate(methods)
    }


FULL, LORA, WIDE, IA3, HOULSBY = (
    {"method": "full"},
    {"method": "lora"},
    {"method": "lora", "rank": 4},
    {"method": "ia3"},
    {"method": "houlsby"},
)


@pytest.mark.parametrize(
    ("methods", "asked", "space"),
    [
        ([FULL, FULL, FULL], "auto", "weights"),
        ([FULL], "auto", "weights"),
        ([LORA, WIDE, FULL], "auto", "delta_w"),
        ([FULL, FULL, LORA], "auto", "delta_w"),
        ([LORA, LORA], "factors", "factors"),
        ([IA3, IA3], "auto", "factors"),
        ([IA3, IA3, LORA], "auto", "delta_w"),
        ([HOULSBY, HOULSBY], "auto", "factors"),
    ],
)
def test_the_space_of_several(master, sweep, connections, methods, asked: str, space: str):
    trials = trials_of(sweep, *methods)
    assert common_space(connections(master[0], trials, space=asked), trials) == space


@pytest.mark.parametrize(
    ("methods", "asked", "said"),
    [([HOULSBY, HOULSBY, LORA], "auto", "can't be merged"), ([LORA, WIDE], "factors", "unlike shapes or scales")],
)
def test_no_common_space(master, sweep, connections, methods, asked: str, said: str):
    trials = trials_of(sweep, *methods)
    with pytest.raises(RaymcError, match=said) as caught:
        common_space(connections(master[0], trials, space=asked), trials)
    assert "\n" not in str(caught.value)
    assert "no common space" in str(caught.value)


def test_other_labels_and_other_tokenizers_have_no_mean(sweep):
    trial = sweep().points[0].trial
    same = {"one": Made(trial, ("neg", "pos"), "t"), "two": Made(trial, ("pos", "neg"), "t")}
    assert shared_labels(same) == ("neg", "pos")
    with pytest.raises(RaymcError, match="one has labels neg, pos, and two no, yes"):
        shared_labels({**same, "two": Made(trial, ("no", "yes"), "t")})
    with pytest.raises(RaymcError, match="different tokenizers"):
        shared_labels({**same, "two": Made(trial, ("neg", "pos"), "u")})


def test_the_fixture_is_what_it_seems(master, keys):
    """Three minima that differ, so that their means are no trivial ones."""
    labels = [json.loads((master[0].folder("minima", k) / "minimum.json").read_text())["labels"] for k in keys["full"]]
    assert labels == [list(LABELS)] * 3
