"""Profiles against a plain loop that mixes state dicts; what may not change them, and what is refused."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import AutoPeftModelForSequenceClassification
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from raymc.connectivity.evaluator import Evaluator
from raymc.connectivity.token_sets import TokenSets
from raymc.connectivity.work import EndpointTask, PairTask
from raymc.landscape.curves import Linear
from raymc.specs.errors import CorruptArtefact, RaymcError
from raymc.specs.results import DIAGNOSTICS, METRICS, PATH_DIAGNOSTICS, Evaluation, Profile
from raymc.store.store import Store
from raymc.tasks.backbones import load_tokenizer, tokenizer_digest
from raymc.tasks.rows import read_rows
from raymc.tasks.tokens import tokenize

# peft asks transformers for something that transformers is about to rename
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

LABELS = ("neg", "pos")
BOTH = ("validation", "test")


def endpoints(evaluator: Evaluator, keys: tuple[str, ...], spaces: tuple[str, ...], splits=BOTH) -> dict[str, Any]:
    """Evaluations by key and split."""
    return {
        key: {found.split: found for found in evaluator.endpoint(EndpointTask(key, space, splits))}
        for key, space in zip(keys, spaces, strict=True)
    }


def join(
    evaluator: Evaluator, a: str, b: str, space: str, ends=None, splits=BOTH, precision="fp32", points=5
) -> dict[str, Profile]:
    """Profiles by split, from endpoints scored in their own spaces."""
    found = ends or endpoints(evaluator, (a, b), (space, space), splits)
    both = {split: (found[a][split], found[b][split]) for split in splits}
    heads = ("path",) * len(splits)
    task = PairTask(a, b, space, "linear", splits, heads, points=points, precision=precision)
    return {profile.split: profile for profile in evaluator.pair(task, both)}


def plain(folder: Path) -> Any:
    """A minimum as transformers loads it, or peft with its factors merged."""
    if (folder / "config.json").is_file():
        return AutoModelForSequenceClassification.from_pretrained(folder).eval()
    labels = json.loads((folder / "minimum.json").read_text())["labels"]
    model: Any = AutoPeftModelForSequenceClassification.from_pretrained(str(folder), num_labels=len(labels))
    return model.merge_and_unload().eval()


@pytest.fixture(scope="session")
def naive(sweep) -> Callable[[Any, Path, str], tuple[float, float]]:
    """naive(model, folder, split): mean loss and accuracy over the rows, one by one and unpadded."""

    def score(model: Any, folder: Path, split: str) -> tuple[float, float]:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        rows = read_rows(sweep().task, split)
        losses, hits = [], 0
        for text, label in zip(rows.text, rows.labels, strict=True):
            gold = LABELS.index(label)
            with torch.no_grad():
                out = model(**tokenizer(text, return_tensors="pt"), labels=torch.tensor([gold]))
            losses.append(out.loss.item())
            hits += int(out.logits.argmax()) == gold
        return math.fsum(losses) / len(losses), hits / len(losses)

    return score


def mixed(folders: tuple[Path, Path], t: float) -> Any:
    model, other = map(plain, folders)
    a, b = model.state_dict(), other.state_dict()
    model.load_state_dict({name: (1 - t) * a[name] + t * b[name] for name in a})
    return model


# Against a plain loop ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [("full", "full"), ("lora", "lora"), ("full", "lora")])
def test_a_profile_is_that_of_a_plain_loop(master, keys, evaluator, naive, first: str, second: str):
    store = master[0]
    a, b = sorted((keys[first][0], keys[second][1]))
    space = "weights" if (first, second) == ("full", "full") else "delta_w"
    own = {"full": "weights", "lora": "delta_w"}
    spaces = tuple(own[next(m for m in own if key in keys[m])] for key in (a, b))
    found = evaluator(store)
    profiles = join(found, a, b, space, endpoints(found, (a, b), spaces))
    folders = (store.folder("minima", a), store.folder("minima", b))
    assert profiles.keys() == {"validation", "test"}
    for split, profile in profiles.items():
        assert profile.t == (0.0, 0.25, 0.5, 0.75, 1.0)
        for t, loss, accuracy in zip(profile.t, profile.loss, profile.metrics["accuracy"], strict=True):
            expected = naive(mixed(folders, t), folders[0], split)
            assert (loss, accuracy) == (pytest.approx(expected[0], abs=2e-6), expected[1])
        assert len(set(profile.loss)) == 5
        assert (profile.a, profile.b, profile.space, profile.curve) == (a, b, space, "linear")
        assert profile.rows == {"validation": 13, "test": 7}[split]


def test_distance_and_cosine_are_of_all_weights(master, keys, evaluator):
    store, (a, b) = master[0], keys["full"][:2]
    profile = join(evaluator(store), a, b, "weights")["test"]
    states = [load_file(store.folder("minima", key) / "model.safetensors") for key in (a, b)]
    x, y = (np.concatenate([s[n].double().numpy().ravel() for n in sorted(states[0])]) for s in states)
    assert profile.distance_l2 == pytest.approx(np.linalg.norm(x - y), rel=1e-12)
    assert profile.cosine == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y), rel=1e-12)
    assert profile.distance_l2 > 0.1


def test_factors_are_another_path_between_the_same_ends(master, keys, evaluator):
    a, b = keys["lora"][:2]
    delta, factors = (join(evaluator(master[0]), a, b, space)["validation"] for space in ("delta_w", "factors"))
    assert factors.space == "factors"
    for end in (0, -1):
        assert factors.loss[end] == pytest.approx(delta.loss[end], abs=1e-5)
    assert max(abs(x - y) for x, y in zip(factors.loss, delta.loss, strict=True)) > 1e-4
    assert factors.distance_l2 != pytest.approx(delta.distance_l2, rel=1e-3)


def test_the_ends_of_a_profile_are_the_endpoints_evaluations(master, keys, evaluator):
    """Exactly: and scoring the path's own ends again would give the same bits."""
    found = evaluator(master[0])
    a, b = keys["full"][:2]
    ends = endpoints(found, (a, b), ("weights",) * 2)
    profiles = join(found, a, b, "weights", ends)
    again = endpoints(found, (a, b), ("weights",) * 2)
    for split, profile in profiles.items():
        for place, key in ((0, a), (-1, b)):
            for scored in (ends[key][split], again[key][split]):
                assert profile.loss[place] == scored.loss
                assert {name: profile.metrics[name][place] for name in scored.metrics} == scored.metrics
        assert set(profile.metrics) == {*METRICS["classifier"], *DIAGNOSTICS, *PATH_DIAGNOSTICS}
        assert (profile.metrics["agreement_a"][0], profile.metrics["jensen_shannon_a"][0]) == (1.0, 0.0)
        assert (profile.metrics["agreement_b"][-1], profile.metrics["jensen_shannon_b"][-1]) == (1.0, 0.0)
    assert set(ends[a]["test"].metrics) == {"accuracy", "f1_macro", "calibration_error"}


@pytest.mark.parametrize("method", ["full", "lora"])
def test_an_endpoint_is_a_plain_loop(master, keys, evaluator, naive, method: str):
    store, key = master[0], keys[method][2]
    space = "weights" if method == "full" else "delta_w"
    folder = store.folder("minima", key)
    for split, found in endpoints(evaluator(store), (key,), (space,))[key].items():
        loss, accuracy = naive(plain(folder), folder, split)
        assert found.loss == pytest.approx(loss, abs=1e-6)
        assert found.metrics["accuracy"] == accuracy
        assert (found.minimum, found.split, found.weights) == (key, split, store.weights_digest("minima", key))


# What changes nothing ------------------------------------------------------------------------------------------------


def numbers(profile: Profile) -> list[float]:
    metrics = [number for name in sorted(profile.metrics) for number in profile.metrics[name]]
    bounds = [number for name in sorted(profile.intervals) for number in profile.intervals[name]]
    return [*profile.loss, *metrics, *profile.length, *bounds, profile.p_value, profile.distance_l2]


def all_pairs(evaluator: Evaluator, keys: list[str], space: str) -> list[float]:
    ends = endpoints(evaluator, tuple(keys), (space,) * len(keys), ("validation",))
    pairs = itertools.combinations(keys, 2)
    profiles = [join(evaluator, a, b, space, ends, ("validation",))["validation"] for a, b in pairs]
    return [number for profile in profiles for number in numbers(profile)]


def test_a_small_cache_gives_the_same_bits(master, keys, evaluator):
    store = master[0]
    for method, space in (("full", "weights"), ("lora", "delta_w"), ("lora", "factors")):
        small, large = evaluator(store, cache_bytes=1), evaluator(store)
        assert all_pairs(small, keys[method], space) == all_pairs(large, keys[method], space)
        assert (len(small.endpoints.held), len(large.endpoints.held)) == (2, 3)
        assert large.loads == 3
        assert small.loads > 3


@pytest.mark.parametrize("budget", [1, 40, None])
def test_token_budgets_change_nothing_but_rounding(master, keys, evaluator, budget: int | None):
    expected = all_pairs(evaluator(master[0]), keys["full"][:2], "weights")
    assert all_pairs(evaluator(master[0], token_budget=budget), keys["full"][:2], "weights") == pytest.approx(
        expected, abs=1e-6
    )


def test_what_was_evaluated_before_changes_nothing(master, keys, evaluator):
    """An evaluator that went from full to LoRA to factors and back gives what fresh ones give."""
    store, used = master[0], evaluator(master[0])
    plan = [("full", "weights"), ("lora", "delta_w"), ("lora", "factors"), ("full", "weights"), ("lora", "delta_w")]
    for method, space in plan:
        a, b = keys[method][1:]
        fresh = join(evaluator(store), a, b, space)["validation"]
        assert numbers(join(used, a, b, space)["validation"]) == numbers(fresh)


def test_splits_do_not_change_each_other(master, keys, evaluator):
    a, b = keys["full"][:2]
    both = join(evaluator(master[0]), a, b, "weights")
    for split in BOTH:
        alone = join(evaluator(master[0]), a, b, "weights", splits=(split,))
        assert alone.keys() == {split}
        assert numbers(alone[split]) == numbers(both[split])


def test_points_that_two_grids_share_are_the_same(master, keys, evaluator):
    a, b = keys["full"][:2]
    few, many = (join(evaluator(master[0]), a, b, "weights", points=n)["test"] for n in (3, 5))
    assert few.loss == many.loss[::2]
    assert few.t == many.t[::2]


def test_bfloat16_is_near_float32(master, keys, evaluator):
    a, b = keys["full"][:2]
    wide, narrow = (join(evaluator(master[0]), a, b, "weights", precision=p)["validation"] for p in ("fp32", "bf16"))
    assert narrow.loss == pytest.approx(wide.loss, abs=0.05)
    assert narrow.loss != wide.loss
    assert narrow.distance_l2 == wide.distance_l2


# Damage and change ---------------------------------------------------------------------------------------------------


def weights_file(store: Store, key: str) -> Path:
    (path,) = store.folder("minima", key).glob("*.safetensors")
    return path


def flip(path: Path) -> None:
    """As a disk does it: no time of change tells, so that nothing but the hash can."""
    content = bytearray(path.read_bytes())
    content[-9] ^= 4
    path.write_bytes(bytes(content))
    manifest, later = path.with_name("MANIFEST.json"), time.time() + 1000
    os.utime(manifest, (later, later))


@pytest.mark.parametrize("method", ["full", "lora"])
def test_corrupt_weights_are_found_before_they_are_used(store, keys, evaluator, method: str):
    space = "weights" if method == "full" else "delta_w"
    a, b, c = keys[method]
    flip(weights_file(store, a))
    flip(weights_file(store, b))
    found = evaluator(store)
    endpoints(found, (c,), (space,))
    for key in (a, b):
        for action in (
            lambda key=key: endpoints(found, (key,), (space,)),
            lambda key=key: endpoints(evaluator(store), (key,), (space,)),
            lambda key=key: found.pair(
                PairTask(*sorted((key, c)), space, "linear", ("test",), ("path",), points=5), {}
            ),
        ):
            with pytest.raises(CorruptArtefact, match="SHA-256 differs") as caught:
                action()
            assert (caught.value.kind, caught.value.key) == ("minima", key)


@pytest.mark.parametrize("name", ["config.json", "minimum.json", "tokenizer.json"])
@pytest.mark.parametrize("how", ["flip", "lose", "empty"])
def test_any_damaged_file_of_a_minimum_is_a_corrupt_artefact(store, keys, evaluator, name: str, how: str):
    path = store.folder("minima", keys["full"][0]) / name
    {"flip": flip, "lose": Path.unlink, "empty": lambda p: p.write_bytes(b"")}[how](path)
    with pytest.raises(CorruptArtefact):
        endpoints(evaluator(store), (keys["full"][0],), ("weights",))


def retrained(store: Store, key: str) -> None:
    """As if the minimum had been damaged, set aside, and trained again with another outcome."""
    old = store.folder("minima", key).rename(store.root / "old")
    with store.create("minima", key) as folder:
        for path in old.iterdir():
            if path.name != "MANIFEST.json":
                shutil.copy(path, folder)
        state = load_file(folder / "model.safetensors")
        save_file({n: 1.5 * t for n, t in state.items()}, folder / "model.safetensors", metadata={"format": "pt"})


def test_another_digest_is_another_minimum_even_where_the_old_is_cached(store, keys, evaluator):
    a, b = keys["full"][:2]
    found = evaluator(store)
    before = endpoints(found, (a, b), ("weights",) * 2)
    retrained(store, a)
    after = endpoints(found, (a, b), ("weights",) * 2)
    fresh = endpoints(evaluator(store), (a, b), ("weights",) * 2)
    assert after[a]["test"].weights == fresh[a]["test"].weights != before[a]["test"].weights
    assert after[a]["test"].loss == fresh[a]["test"].loss != before[a]["test"].loss
    assert after[b]["test"].loss == before[b]["test"].loss
    with pytest.raises(RaymcError, match="an endpoint was evaluated with other weights"):
        join(found, a, b, "weights", before)
    join(found, a, b, "weights", after)


# What can't be evaluated ---------------------------------------------------------------------------------------------


def refused(action: Callable[[], Any]) -> str:
    with pytest.raises(RaymcError) as caught:
        action()
    assert not isinstance(caught.value, CorruptArtefact)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_other_labels_are_refused(master, keys, evaluator):
    key = keys["full"][0]
    found = evaluator(master[0], labels=("neg", "other"))
    message = refused(lambda: endpoints(found, (key,), ("weights",)))
    assert message == f"{key} has labels neg, pos, the task neg, other"


def test_another_tokenizer_is_refused(store, keys, evaluator, sweep, backbone, add):
    words = ("the", "a", "dog", "cat", "bird", "is", "was", "very", "good", "great", "bad", "awful")
    other = add(store, sweep(model={"backbone": str(backbone(words))}).points[0].trial)
    message = refused(lambda: endpoints(evaluator(store), (other,), ("weights",)))
    assert message == f"{other} has a tokenizer that split validation was not read with"
    ends = dict.fromkeys(BOTH, (None, None))
    task = PairTask(keys["full"][0], other, "weights", "linear", BOTH, ("path", "path"), points=5)
    assert "different tokenizers" in refused(lambda: evaluator(store).pair(task, ends))


def test_other_shapes_are_refused_pair_by_pair(store, keys, evaluator, sweep, backbone, add):
    """Each is fine by itself."""
    wide = add(store, sweep(model={"backbone": str(backbone(intermediate_size=48))}).points[0].trial)
    heads = add(store, sweep(model={"backbone": str(backbone(num_attention_heads=4))}).points[0].trial)
    found = evaluator(store)
    for other, name in ((wide, "intermediate_size"), (heads, "num_attention_heads")):
        ends = endpoints(found, (keys["full"][0], other), ("weights",) * 2)
        for a, b in itertools.permutations((keys["full"][0], other)):
            assert f"architectures differ: {name}" in refused(lambda a=a, b=b, e=ends: join(found, a, b, "weights", e))


def test_a_loss_that_is_not_finite_says_where(master, keys, evaluator, monkeypatch):
    """Half-way between two good minima the weights may be anything."""
    found = evaluator(master[0])
    a, b = keys["full"][:2]
    ends = endpoints(found, (a, b), ("weights",) * 2)
    plain_point = Linear.point

    def point(self, t: float, out: torch.Tensor) -> None:
        plain_point(self, t, out)
        if t == 0.5:
            out.fill_(math.inf)

    monkeypatch.setattr("raymc.landscape.curves.Linear.point", point)
    message = refused(lambda: join(found, a, b, "weights", ends))
    assert "t = 0.5" in message
    assert "not finite" in message


def test_results_survive_their_json(master, keys, evaluator):
    """As the store keeps them: to the last bit."""
    a, b = keys["full"][:2]
    found = evaluator(master[0])
    ends = endpoints(found, (a, b), ("weights",) * 2)
    profile = join(found, a, b, "weights", ends)["test"]
    assert Profile.model_validate(json.loads(json.dumps(profile.model_dump(mode="json")))) == profile
    scored = ends[a]["test"]
    assert Evaluation.model_validate(json.loads(json.dumps(scored.model_dump(mode="json")))) == scored


# Several tasks along one path ----------------------------------------------------------------------------------------

THREE = ("bad", "fine", "good")


@pytest.fixture(scope="session")
def three(dataset, tmp_path_factory) -> Path:
    """The same texts under three labels."""
    folder = tmp_path_factory.mktemp("three")
    for path in dataset.glob("*.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for i, row in enumerate(rows):
            row["label"] = "fine" if i % 3 == 0 else {"neg": "bad", "pos": "good"}[row["label"]]
        (folder / path.name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize("method", ["full", "lora"])
def test_each_task_is_scored_with_the_head_of_the_end_tuned_on_it(
    store, keys, sweep, add, three, tokens, backbone, method: str
):
    """Against state dicts mixed by hand: the body is interpolated, the owner's head stays."""
    space = "weights" if method == "full" else "delta_w"
    spec = sweep(task={"dataset": {"path": str(three)}}, tuning={"method": method})
    other, mine = add(store, spec.points[0].trial), keys[method][0]
    tokenizer = load_tokenizer(str(backbone()))
    foreign = tokenize(tokenizer, read_rows(spec.task, "test"), THREE, spec.task, "classifier")
    digest = tokenizer_digest(store.folder("minima", mine))
    sets = TokenSets("classifier", {digest: {"two": tokens["test"], "three": foreign}}, {"two": LABELS, "three": THREE})
    found = Evaluator(store, sets)
    a, b = sorted((mine, other))
    heads = ("a", "b") if a == mine else ("b", "a")
    ends = {
        split: tuple(found.endpoint(EndpointTask(key, space, (split,)))[0] if key == owner else None for key in (a, b))
        for split, owner in (("two", mine), ("three", other))
    }
    two, third = found.pair(PairTask(a, b, space, "linear", ("two", "three"), heads, points=5), ends)
    assert (two.head, third.head) == (mine, other)
    bodies = {key: plain(store.folder("minima", key)) for key in (a, b)}
    texts = read_rows(spec.task, "test").text
    for profile, owner, labels, task in ((two, mine, LABELS, None), (third, other, THREE, spec.task)):
        gold = read_rows(task or sweep().task, "test").labels
        for t, loss in zip(profile.t, profile.loss, strict=True):
            mixed = copy.deepcopy(bodies[owner])
            states = {key: body.state_dict() for key, body in bodies.items()}
            state = {
                name: tensor if name.startswith("classifier") else (1 - t) * states[a][name] + t * states[b][name]
                for name, tensor in states[owner].items()
            }
            mixed.load_state_dict(state)
            losses = []
            for text, label in zip(texts, gold, strict=True):
                with torch.no_grad():
                    logits = mixed(**tokenizer(text, return_tensors="pt")).logits
                losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor([labels.index(label)])).item())
            assert loss == pytest.approx(sum(losses) / len(losses), abs=2e-6)
    assert two.distance_l2 == pytest.approx(third.distance_l2, rel=1e-6)


def test_labels_in_another_order_are_matched_by_name(master, keys, tokens, evaluator):
    """A path's loss doesn't depend on the order in which a task names its labels."""
    turned = {split: dataclasses.replace(part, labels=1 - part.labels) for split, part in tokens.items()}
    a, b = sorted(keys["full"][:2])
    task = PairTask(a, b, "weights", "linear", BOTH, ("path", "path"), points=5)
    straight = evaluator(master[0]).pair(task, {})
    swapped = evaluator(master[0], labels=("pos", "neg"), tokens=turned).pair(task, {})
    for one, other in zip(straight, swapped, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-6)
        assert one.metrics.keys() == other.metrics.keys()
        for name, values in one.metrics.items():
            assert values == pytest.approx(other.metrics[name], abs=1e-6)


def test_an_end_with_both_heads_is_not_mixed_up(master, keys, evaluator):
    """With a's head fixed, t = 0 is a itself and t = 1 is b under a's head, which isn't b."""
    a, b = sorted(keys["full"][:2])
    found = evaluator(master[0])
    ends = endpoints(found, (a, b), ("weights",) * 2)
    both = {split: (ends[a][split], ends[b][split]) for split in BOTH}
    for profile in found.pair(PairTask(a, b, "weights", "linear", BOTH, ("a", "a"), points=5), both):
        assert profile.loss[0] == ends[a][profile.split].loss
        assert profile.loss[-1] != ends[b][profile.split].loss


# Backbones, tokenizers and models in hand ---------------------------------------------------------------------------


def test_an_adapter_stands_on_its_backbone_wherever_that_lies_now(
    store, keys, sweep, add, backbone, evaluator, tmp_path
):
    """Paths are no part of a key: a backbone that moved is the same, and what lies in its old place is another."""
    old, new = tmp_path / "old", tmp_path / "new"
    shutil.copytree(backbone(), old)
    key = add(store, sweep(model={"backbone": str(old)}, tuning={"method": "lora"}).points[0].trial)
    before = evaluator(store).endpoint(EndpointTask(key, "delta_w", ("test",)))[0]
    old.rename(new)
    shutil.copytree(new, old)
    other = {name: tensor + 0.3 for name, tensor in load_file(old / "model.safetensors").items()}
    save_file(other, old / "model.safetensors", metadata={"format": "pt"})
    trial = sweep(model={"backbone": str(new)}, tuning={"method": "lora"}).points[0].trial
    assert trial.key == key
    after = evaluator(store, trials={key: trial}).endpoint(EndpointTask(key, "delta_w", ("test",)))[0]
    assert after.loss == before.loss


def test_a_tokenizer_is_parsed_once(master, keys, evaluator, monkeypatch):
    """It takes a good part of a second where its vocabulary is large, and pairs are many."""
    parsed: list[Path] = []
    monkeypatch.setattr(
        "raymc.tasks.minima.tokenizer_digest",
        lambda folder: parsed.append(folder) or tokenizer_digest(folder),
    )
    found = evaluator(master[0])
    for a, b in itertools.combinations(sorted(keys["full"]), 2):
        join(found, a, b, "weights")
    assert len(parsed) == 1


def test_models_without_a_head_are_read_once_for_tasks_of_any_labels(sweep, backbone, add, tmp_path):
    folder = tmp_path / "decoder"
    load_tokenizer(str(backbone())).save_pretrained(folder)
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(vocab_size=17, n_positions=16, n_embd=8, n_layer=1, n_head=1)).save_pretrained(folder)
    spec = sweep(
        model={"backbone": str(folder), "kind": "causal"},
        task={"targets": {"neg": "bad", "pos": "good"}},
        train={"steps": 1},
        axes={"seeds.order": [1, 2]},
    )
    store = Store(tmp_path / "store")
    a, b = sorted(add(store, point.trial) for point in spec.points)
    renamed = {"rename": {"neg": "dog", "pos": "cat"}, "targets": {}}
    tasks = {"one": (LABELS, spec.task), "two": (("cat", "dog"), spec.task.model_copy(update=renamed))}
    tokens = {
        name: tokenize(load_tokenizer(str(folder)), read_rows(task, "test"), labels, task, "causal")
        for name, (labels, task) in tasks.items()
    }
    digest = tokenizer_digest(store.folder("minima", a))
    found = Evaluator(store, TokenSets("causal", {digest: tokens}, {name: tasks[name][0] for name in tasks}))
    one, two = found.pair(PairTask(a, b, "weights", "linear", ("one", "two"), ("path", "path"), points=3), {})
    assert one.loss != two.loss
    assert found.loads == 2
