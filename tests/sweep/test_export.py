"""Exports of a tiny sweep, opened by plain transformers and peft and scored by a loop of their own."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pandas as pd
import torch
from peft import AutoPeftModelForSequenceClassification
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertModel,
    PreTrainedTokenizerFast,
)

from raymc.connectivity.evaluator import Evaluator
from raymc.connectivity.pairs import Connections
from raymc.connectivity.token_sets import token_sets
from raymc.specs.errors import CorruptArtefact, RaymcError
from raymc.specs.sweep import SweepSpec
from raymc.store.store import Store
from raymc.sweep.check import trials_by_key
from raymc.sweep.export import export
from raymc.sweep.ingredients import cluster_of, find, last_of_runs, members_of, ranked
from raymc.sweep.results import Sweep, open_sweep, write_sweep
from raymc.sweep.tables import assemble
from raymc.tasks.rows import labels_of
from raymc.training.curve_fit import fit_curve
from raymc.training.finetune import finetune
from raymc.training.parallel import Group

# peft asks transformers for something that transformers is about to rename
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = ("the", "a", "cat", "dog", "bird", "is", "was", "very", "good", "great", "bad", "awful")
ROWS = {"train": 24, "validation": 15, "test": 7}
SPLITS = ("validation", "test")
Score = tuple[float, float]


@pytest.fixture(autouse=True, scope="module")
def _quietly(on_one_thread: None) -> None:
    """All of this room."""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two labels that a few words tell, with one row in five wrong."""
    folder = tmp_path_factory.mktemp("dataset")
    for split, count in ROWS.items():
        lines = []
        for i in range(count):
            word = WORDS[8 + i * 5 % 4]
            text = " ".join([WORDS[i % 2], WORDS[2 + i % 3], *["very"] * (i * 7 % 5), word])
            label = ("neg", "pos")[(word in ("good", "great")) ^ (i % 5 == 3)]
            lines.append(json.dumps({"text": text, "label": label}) + "\n")
        (folder / f"{split}.jsonl").write_text("".join(lines))
    return folder


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backbone")
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate((*SPECIAL, *WORDS))}, unk_token="[UNK]"))
    inner.normalizer, inner.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    inner.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=inner, **names).save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    config = BertConfig(vocab_size=17, max_position_embeddings=16, initializer_range=0.2, **sizes)
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def body(rows: Path, backbone: Path) -> dict[str, Any]:
    return {
        "name": "tiny",
        "model": {"backbone": str(backbone)},
        "task": {"dataset": {"path": str(rows)}, "max_length": 16},
        "train": {"steps": 6, "batch_size": 6, "learning_rate": 2e-2, "dropout": 0.0},
        "zip": [{"tuning": [{"method": "full"}] * 3 + [{"method": "lora"}] * 2, "seeds.head": [1, 2, 3, 1, 2]}],
        "connectivity": {"points": 5, "splits": list(SPLITS), "curves": ["linear", "spherical"]},
    }


def ran(spec: SweepSpec, store: Store) -> Sweep:
    """What a run leaves, without Ray."""
    points = trials_by_key(spec)
    for key, point in points.items():
        if not store.has("minima", key):
            finetune([point.trial], store, Group(), checkpoint_every=0, log_every=6, report=lambda _: None)
    connections = Connections(spec, store, points, labels_of)
    for fit in connections.missing_fits(set(points)):
        fitting = connections.fitting(*fit)
        fit_curve(fitting, store, Group(), checkpoint_every=0, log_every=6, report=lambda _: None)
    sets = token_sets(spec, store.uri, list(points))
    evaluator = Evaluator(store, sets)
    for task in connections.missing_endpoints(set(points))[0]:
        for found in evaluator.endpoint(task):
            connections.put(found)
    for task in connections.missing_pairs(set(points))[0]:
        ends = {
            split: (connections.evaluation(task.a, split), connections.evaluation(task.b, split))
            for split in task.splits
        }
        for found in evaluator.pair(task, ends):
            connections.put(found)
    tables, _, _ = assemble(connections, points)
    return write_sweep(store, spec, tables, {}, [])


@pytest.fixture(scope="module")
def sweep(body: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    store = Store(tmp_path_factory.mktemp("store"))
    ran(SweepSpec.model_validate(body), store)
    return open_sweep("tiny", storage=store.uri)


@pytest.fixture(scope="module")
def keys(sweep: Sweep) -> dict[str, list[str]]:
    """By method, in the order of the minima table."""
    table = sweep.minima()
    methods = [how["method"] if isinstance(how, dict) else json.loads(how)["method"] for how in table["tuning"]]
    return {m: [k for k, one in zip(table["key"], methods, strict=True) if one == m] for m in ("full", "lora")}


def plain(folder: Path) -> Any:
    if (folder / "config.json").is_file():
        return AutoModelForSequenceClassification.from_pretrained(folder).eval()
    return AutoPeftModelForSequenceClassification.from_pretrained(str(folder), num_labels=2).eval()


def by_hand(model: Any, folder: Path, rows: Path, split: str, labels: dict[str, int]) -> Score:
    """Mean loss and accuracy, row by row, from the dataset's own file."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    losses, hits = [], 0
    for line in (rows / f"{split}.jsonl").read_text().splitlines():
        row = json.loads(line)
        with torch.no_grad():
            logits = model(**tokenizer(row["text"], return_tensors="pt")).logits[0].double()
        losses.append(-torch.log_softmax(logits, -1)[labels[row["label"]]].item())
        hits += int(logits.argmax()) == labels[row["label"]]
    return math.fsum(losses) / len(losses), hits / len(losses)


def check(found: Any, rows: Path) -> Any:
    """That a folder, opened by others, scores as raymc said; the model."""
    model, said = plain(found.folder), json.loads((found.folder / "raymc.json").read_text())
    assert said == found.provenance
    named = model.config.label2id if (found.folder / "config.json").is_file() else None
    labels = named or {name: i for i, name in enumerate(said["labels"])}
    assert set(labels) == {"neg", "pos"}
    row = found.table.iloc[0]
    for split in SPLITS:
        loss, accuracy = by_hand(model, found.folder, rows, split, labels)
        assert said["scores"][split]["loss"] == pytest.approx(loss, abs=1e-6)
        assert (said["scores"][split]["accuracy"], row[f"{split}_accuracy"]) == (accuracy, accuracy)
        assert row[f"{split}_loss"] == said["scores"][split]["loss"]
    return model


def states(sweep: Sweep, keys: list[str]) -> list[dict[str, torch.Tensor]]:
    """Of minima as transformers opens them, or as peft merges them."""
    found = []
    for key in keys:
        model = plain(sweep.store.folder("minima", key))
        found.append((model.merge_and_unload() if hasattr(model, "merge_and_unload") else model).state_dict())
    return found


def near(found: dict[str, torch.Tensor], parts: list[dict[str, torch.Tensor]], weights: list[float]) -> bool:
    mixed = {n: sum(w * part[n].double() for w, part in zip(weights, parts, strict=True)) for n in parts[0]}
    return found.keys() == mixed.keys() and all(
        torch.allclose(found[name].double(), tensor, rtol=0, atol=1e-6) for name, tensor in mixed.items()
    )


# Soups ----------------------------------------------------------------------------------------------------------------


def test_a_uniform_soup_in_plain_transformers_scores_as_said(sweep: Sweep, keys, rows: Path, tmp_path: Path):
    found = export(sweep, tmp_path / "soup", soup="uniform", members=keys["full"])
    model = check(found, rows)
    assert near(model.state_dict(), states(sweep, keys["full"]), [1 / 3] * 3)
    said = found.provenance
    assert (said["what"], said["space"], said["chosen_on"]) == ("soup", "weights", None)
    assert said["reported_on"] == list(SPLITS)
    assert {one["key"]: one["coefficient"] for one in said["ingredients"]} == dict.fromkeys(keys["full"], 1 / 3)
    assert said["ingredients"][0]["weights"] == sweep.store.weights_digest("minima", said["ingredients"][0]["key"])
    assert said["sweep"] == "tiny"
    assert said["storage"] == sweep.store.uri
    assert said["versions"]["transformers"]
    table, minima = found.table, sweep.minima().set_index("key")
    assert list(table["what"]) == ["export", *["ingredient"] * 3]
    for _, row in table.iloc[1:].iterrows():
        assert row["name"] == minima["name"][row["key"]]
        for column in ("validation_loss", "test_accuracy", "test_f1_macro"):
            assert row[column] == minima[column][row["key"]]


def test_a_greedy_soup_is_recipe_one_with_real_models(sweep: Sweep, keys, rows: Path, tmp_path: Path):
    """All five, LoRA and full, in delta_w; against means made from merged state dicts and scored by hand."""
    found = export(sweep, tmp_path / "soup", soup="greedy", choose="validation")
    model = check(found, rows)
    minima = sweep.minima().set_index("key")
    order = sorted(minima.index, key=lambda k: (-minima["validation_accuracy"][k], minima["validation_loss"][k], k))
    parts = dict(zip(order, states(sweep, order), strict=True))
    folder, kept, best, history = sweep.store.folder("minima", keys["full"][0]), [], -1.0, []
    for key in order:
        some = [*kept, key]
        mean = {n: sum(parts[one][n].double() for one in some) / len(some) for n in parts[key]}
        whole = plain(folder)
        whole.load_state_dict({name: tensor.to(parts[key][name].dtype) for name, tensor in mean.items()})
        score = by_hand(whole, folder, rows, "validation", whole.config.label2id)[1]
        history.append({"key": key, "accuracy": score, "kept": score >= best})
        if score >= best:
            kept, best = some, score
    said = found.provenance
    assert said["history"] == history
    assert [one["key"] for one in said["ingredients"]] == kept
    assert (said["chosen_on"], said["reported_on"], said["space"]) == ("validation", ["test"], "delta_w")
    assert any("optimistic" in note for note in found.notes)
    assert near(model.state_dict(), [parts[key] for key in kept], [1 / len(kept)] * len(kept))


def test_soups_of_a_cluster_by_threshold(sweep: Sweep, keys, tmp_path: Path):
    heights = sweep.matrix("linear", "validation", "barrier_entezari").loc[keys["full"], keys["full"]]
    highest = float(heights.max().max())
    whole = export(sweep, tmp_path / "a", soup="cluster", threshold=highest, members=keys["full"], report="test")
    assert {one["key"] for one in whole.provenance["ingredients"]} == set(keys["full"])
    assert whole.provenance["chosen_on"] == "validation"
    small = export(sweep, tmp_path / "c", soup="cluster", report="test")  # too few to be told apart
    told = small.provenance["cluster"]
    assert (told["clusters"], told["cluster"], told["p_value"], len(small.provenance["ingredients"])) == (1, 1, None, 5)
    none = export(sweep, tmp_path / "b", soup="cluster", threshold=-1.0, members=keys["full"], cluster=keys["full"][1])
    assert [one["key"] for one in none.provenance["ingredients"]] == [keys["full"][1]]
    assert "a soup of one: it is that minimum" in none.notes


# Paths ----------------------------------------------------------------------------------------------------------------


def test_a_lora_path_in_delta_w_is_peft_s_merged_weights_interpolated(sweep: Sweep, keys, rows: Path, tmp_path: Path):
    a, b = sorted(keys["lora"])[:2]
    found = export(sweep, tmp_path / "point", path=(a, b), t=0.25)
    model = check(found, rows)
    assert near(model.state_dict(), states(sweep, [a, b]), [0.75, 0.25])
    profile = sweep.profiles().query(f"a == '{a}' and b == '{b}' and curve == 'linear' and t == 0.25")
    for split, loss in zip(profile["split"], profile["loss"], strict=True):
        assert found.provenance["scores"][split]["loss"] == pytest.approx(loss, abs=1e-7)
    said = found.provenance
    assert (said["curve"], said["t"], said["space"], said["head"]) == ("linear", 0.25, "delta_w", "path")
    assert [(one["key"], one["coefficient"]) for one in said["ingredients"]] == [(a, 0.75), (b, 0.25)]
    back = export(sweep, tmp_path / "back", path=(b, a), t="0.75")
    assert back.provenance["scores"] == said["scores"]
    assert [(one["key"], one["coefficient"]) for one in back.provenance["ingredients"]] == [(b, 0.25), (a, 0.75)]
    assert back.provenance["t"] == 0.75
    assert back.provenance["recipe"] == "the point t = 0.75 of the linear path from the first ingredient to the second"


def test_factors_are_exported_as_a_peft_folder(body, sweep: Sweep, keys, rows: Path, tmp_path: Path):
    bezier = {"curve": "bezier", "fit": {"steps": 3, "select": "validation", "learning_rate": 0.01}}
    spec = SweepSpec.model_validate(
        {
            **body,
            "name": "factors",
            "zip": [],
            "axes": {"seeds.head": [1, 2]},
            "tuning": {"method": "lora"},
            "connectivity": {**body["connectivity"], "space": "factors", "curves": ["linear", bezier]},
        }
    )
    factors = ran(spec, sweep.store)
    names = list(factors.names().values())
    found = export(factors, tmp_path / "point", path=(names[0], names[1]), t="best", choose="test")
    check(found, rows)
    assert (tmp_path / "point" / "adapter_config.json").is_file()
    assert any("stands on the backbone" in note for note in found.notes)
    soup = export(factors, tmp_path / "soup", soup="uniform")
    check(soup, rows)
    curved = export(factors, tmp_path / "curved", path=(names[1], names[0]), t=0.25, curve="bezier")
    check(curved, rows)
    first = find(factors.names(), names[1])
    t = 0.25 if first == min(factors.names()) else 0.75
    profile = factors.profiles().query(f"curve == 'bezier' and t == {t} and split == 'test'")
    assert curved.provenance["scores"]["test"]["loss"] == pytest.approx(profile["loss"].item(), abs=1e-7)
    assert [one["coefficient"] for one in curved.provenance["ingredients"]] == pytest.approx([0.75**2, 0.25**2])
    assert curved.provenance["fit"]
    assert any("the curve itself was chosen on validation" in note for note in curved.notes)
    assert any("the rest of the point is of the curve's bends" in note for note in curved.notes)
    merged = export(factors, tmp_path / "merged", minimum=names[0], merged=True)
    model = check(merged, rows)
    assert isinstance(model, type(plain(tmp_path / "merged")))
    assert near(model.state_dict(), states(sweep, [find(factors.names(), names[0])]), [1.0])
    (curve,) = {factors.connections.fit_key(*fit) for fit in factors.connections.fits()}
    (sweep.store.folder("curves", curve) / "curve.safetensors").write_bytes(b"other")
    with pytest.raises(CorruptArtefact, match="makes it anew"):
        export(factors, tmp_path / "damaged", path=(names[0], names[1]), t=0.5, curve="bezier")
    assert len(factors.connections.missing_fits(set(factors.names()))) == 1  # it no longer stands in the way


@pytest.mark.parametrize("curve", ["linear", "spherical"])
def test_the_best_point_is_that_of_lowest_loss_where_it_is_chosen(sweep: Sweep, keys, tmp_path: Path, curve: str):
    a, b = sorted(keys["full"])[1:]
    found = export(sweep, tmp_path / "point", path=(b, a), t="best", curve=curve, choose="test")
    table = sweep.profiles().query(f"a == '{a}' and b == '{b}' and curve == '{curve}' and split == 'test'")
    lowest = table.loc[table["loss"].idxmin()]
    said = found.provenance
    assert said["t"] == 1 - lowest["t"]
    assert said["scores"]["test"]["loss"] == pytest.approx(lowest["loss"], abs=1e-7)
    assert (said["chosen_on"], said["reported_on"], said["curve"]) == ("test", ["validation"], curve)


# Minima ---------------------------------------------------------------------------------------------------------------


def test_a_minimum_is_copied(sweep: Sweep, keys, rows: Path, tmp_path: Path):
    for method in ("full", "lora"):
        key = keys[method][0]
        found = export(sweep, tmp_path / method, minimum=key[:6])
        check(found, rows)
        theirs = sweep.store.folder("minima", key)
        for path in theirs.iterdir():
            assert path.name == "MANIFEST.json" or (found.folder / path.name).read_bytes() == path.read_bytes()
        assert [one["key"] for one in found.provenance["ingredients"]] == [key]
        for split in SPLITS:
            said = found.table[f"{split}_loss"]
            assert said[0] == pytest.approx(said[1], abs=1e-7)


# Other precisions, tasks and methods ----------------------------------------------------------------------------------


def test_ingredients_of_a_sweep_in_bfloat16_are_scored_anew(sweep: Sweep, keys, rows: Path, tmp_path: Path):
    how = sweep.spec.connectivity.model_copy(update={"precision": "bf16"})
    rough = Sweep("tiny", sweep.store, sweep.spec.model_copy(update={"connectivity": how}), {}, [])
    found = export(rough, tmp_path / "soup", soup="uniform", members=keys["full"][:2], report=["test"])
    minima = sweep.minima().set_index("key")
    for _, row in found.table.iloc[1:].iterrows():
        assert row["test_loss"] == pytest.approx(minima["test_loss"][row["key"]], abs=1e-7)
    assert any("scored in fp32" in note for note in found.notes)
    assert "validation_loss" not in found.table


def test_a_path_between_tasks_has_the_head_of_the_row_set_it_is_chosen_on(body, sweep: Sweep, tmp_path: Path):
    task = {**body["task"], "train_split": "train"}
    other = {**task, "rename": {"neg": "no", "pos": "yes"}}
    spec = SweepSpec.model_validate(
        {
            **body,
            "name": "tasks",
            "zip": [],
            "axes": {"task": [task, other]},
            "connectivity": {"points": 3, "tasks": {"one": task, "two": other}},
        }
    )
    tasks = ran(spec, sweep.store)
    ends = list(tasks.names())
    for name, key, labels in (("one", ends[0], {"neg", "pos"}), ("two", ends[1], {"no", "yes"})):
        split = f"{name}.validation"
        found = export(tasks, tmp_path / name, path=(ends[0], ends[1]), t=0.5, choose=split)
        profile = tasks.profiles().query(f"split == '{split}' and t == 0.5").iloc[0]
        assert found.provenance["head"] == profile["head"] == key
        assert set(found.provenance["labels"]) == set(plain(tmp_path / name).config.label2id) == labels
        assert found.provenance["scores"].keys() == {split}
        assert found.provenance["scores"][split]["loss"] == pytest.approx(profile["loss"], abs=1e-7)
        assert found.table[f"{split}_loss"].isna().sum() == 1  # the other task's minimum can't be scored there
        model, expected = plain(tmp_path / name), plain(sweep.store.folder("minima", key))
        assert torch.equal(model.classifier.weight, expected.classifier.weight)
    with pytest.raises(RaymcError, match="a mean needs minima of the same labels"):
        export(tasks, tmp_path / "soup", soup="uniform")


def test_what_can_t_be_merged_isn_t(body, sweep: Sweep, tmp_path: Path):
    how = {"method": "houlsby", "bottleneck": 2}
    spec = SweepSpec.model_validate({**body, "name": "houlsby", "zip": [], "tuning": how})
    found = ran(spec, sweep.store)
    with pytest.raises(RaymcError, match="base can't be merged into the weights; leave merged out"):
        export(found, tmp_path / "out", minimum="base", merged=True)
    notes = export(found, tmp_path / "out", minimum="base").notes
    assert any("peft has no such adapters" in note for note in notes)


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "give one of minimum, path and soup, not none"),
        ({"minimum": "x", "soup": "uniform"}, "not minimum and soup"),
        ({"soup": "uniform", "t": 0.5}, "t doesn't go with soup"),
        ({"soup": "uniform", "merged": True}, "merged doesn't go with soup"),
        ({"soup": "onion"}, "no soup is called 'onion': it is one of uniform, greedy, cluster"),
        ({"soup": "uniform", "choose": "train"}, r"no row set 'train' \(it has validation, test\)"),
        ({"soup": "uniform", "members": ["full 9"]}, "no minimum is 'full 9'; the nearest are"),
        ({"path": ("A", "A"), "t": 0.5}, "is both ends of the path"),
        ({"path": ("A", "B")}, "a path needs t"),
        ({"path": ("A", "B"), "t": 1.5}, "t is 1.5; give a number from 0 to 1, or best"),
        ({"path": ("A", "B"), "t": "middle"}, "t is 'middle'"),
        ({"path": ("A", "B"), "t": 0.5, "curve": "bezier"}, r"no curve 'bezier' \(it has linear, spherical\)"),
        ({"soup": "cluster", "cluster": "7"}, "there is no cluster 7: there are 1, counted from 1"),
        ({"soup": "cluster", "cluster": 1, "threshold": 0.1}, "with a threshold, name a minimum"),
    ],
)
def test_refusals_are_one_line_and_leave_nothing(sweep: Sweep, keys, tmp_path: Path, asked, said: str):
    ends = dict(zip("AB", keys["full"], strict=False))
    if "path" in asked:
        asked = asked | {"path": tuple(ends[end] for end in asked["path"])}
    with pytest.raises(RaymcError, match=said) as caught:
        export(sweep, tmp_path / "out", **asked)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_taken_is_refused_before_anything_is_scored(sweep: Sweep, tmp_path: Path):
    (tmp_path / "mine").write_text("")
    with pytest.raises(RaymcError, match="isn't empty"):
        export(sweep, tmp_path, soup="uniform")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


# Which minima ---------------------------------------------------------------------------------------------------------


def test_minima_by_key_prefix_and_name():
    names = {"abcdef01": "lr=1", "abcdef02": "lr=2", "123456ff": "lr=2"}
    assert find(names, "abcdef01") == find(names, "abcdef01"[:8]) == find(names, "lr=1") == "abcdef01"
    assert find(names, "123456") == "123456ff"
    for asked, said in (
        ("abcdef", "2 minima are 'abcdef'"),
        ("lr=2", "2 minima are 'lr=2'"),
        ("12345", "no minimum is '12345'"),
        ("lr=3", "the nearest are lr=2, lr=1"),
    ):
        with pytest.raises(RaymcError, match=said):
            find(names, asked)


def listed(spec: SweepSpec, weak: tuple[int, ...] = ()) -> tuple[Sweep, dict[str, Any], list[str]]:
    points = {point.trial.key: point for point in spec.points}
    found = Sweep("some", Store("/nowhere"), spec, {}, [])
    below = [i in weak for i in range(len(points))]
    found._tables["minima"] = pd.DataFrame({"key": list(points), "name": [f"m{i}" for i in range(len(points))]})
    found._tables["minima"]["below_floor"] = below
    return found, points, list(points)


def test_a_soup_is_of_strong_minima_and_of_the_last_of_each_run(body):
    spec = SweepSpec.model_validate(
        {**body, "zip": [], "axes": {"seeds.head": [1, 2, 3], "train.snapshot": [2, 4, None]}}
    )
    found, points, order = listed(spec, weak=(3, 8))
    assert last_of_runs({}, order) == order  # of files that have changed since
    keys, notes = members_of(found, points, None)
    assert keys == [order[2], order[5], order[7]]  # of the third run, the end is weak
    assert len(notes) == 2
    assert all(f"m{i} " in notes[0] for i in (3, 8))
    assert all(f"m{i} " in notes[1] for i in (0, 1, 4, 6))
    assert members_of(found, points, ["m3", order[0][:8]]) == ([order[3], order[0]], [])
    for asked in (["m1", "m1"], []):
        with pytest.raises(RaymcError, match="members names"):
            members_of(found, points, asked)
    with pytest.raises(RaymcError, match="has no minimum for a soup; left out as below the floor: m0"):
        members_of(listed(spec, weak=tuple(range(9)))[0], points, None)


def test_rank_is_by_metric_then_loss():
    table = pd.DataFrame({"key": list("abcd"), "name": list("ABCD"), "dev_accuracy": [0.5, 0.9, 0.9, math.nan]})
    table["dev_loss"] = [0.1, 0.3, 0.2, math.nan]
    assert ranked(table, list("abc"), "dev", "accuracy") == ["c", "b", "a"]
    with pytest.raises(RaymcError, match="D wasn't scored on dev"):
        ranked(table, list("abd"), "dev", "accuracy")


def test_clusters_as_they_are_found(body):
    """Two groups of four that lie far apart: the soup is of the best one's, or of the one that is named."""
    spec = SweepSpec.model_validate({**body, "zip": [], "axes": {"seeds.head": list(range(8))}})
    found, _, order = listed(spec)
    rows = []
    for i in range(8):
        for j in range(i):
            height = (0.1 if (i < 4) == (j < 4) else 2.0) + 0.01 * ((i * j) % 3)
            a, b = sorted((order[i], order[j]))
            rows.append({"a": a, "b": b, "curve": "linear", "split": "test", "barrier_entezari": height})
    found._tables["barriers"] = pd.DataFrame(rows).assign(below_floor=False)
    ranks = [order[5], *order[:5], *order[6:]]
    keys, told, _ = cluster_of(found, ranks, "test", None, None)
    assert keys == [order[5], order[4], order[6], order[7]]
    assert (told["clusters"], told["cluster"], told["curve"], told["barrier"]) == (2, 2, "linear", "barrier_entezari")
    assert (
        cluster_of(found, ranks, "test", "1", None)[0] == cluster_of(found, ranks, "test", "m1", None)[0] == order[:4]
    )
    assert set(cluster_of(found, ranks, "test", None, 0.5)[0]) == set(order[4:])
    with pytest.raises(RaymcError, match="m1 is not among the soup's members"):
        cluster_of(found, order[2:], "test", "m1", None)
