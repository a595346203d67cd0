from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from raymc.specs.content import backbone_key, backbone_trajectory, positions, text_files
from raymc.specs.errors import RaymcError
from raymc.specs.model import ModelSpec
from raymc.specs.text import TextBackbone, TextFiles


@pytest.fixture
def text(tmp_path: Path) -> Path:
    folder = tmp_path / "text"
    folder.mkdir()
    for split in ("train", "validation", "test"):
        (folder / f"{split}.txt").write_text(f"a line of {split}\n")
    return folder


def spec(folder: Path | str, **fields: Any) -> TextBackbone:
    plain: dict[str, Any] = {"pretrain": "masked", "text": {"path": str(folder)}, "steps": 20}
    if "start" not in fields:
        plain["architecture"] = {"model_type": "bert"}
    return TextBackbone.model_validate(plain | fields)


def test_snapshots_of_a_run_are_one_trajectory_with_a_key_each(text):
    snapshots = [spec(text, snapshot=step) for step in (0, 5, 20, None)]
    keys = [backbone_key(one) for one in snapshots]
    assert len(set(keys)) == 3
    assert keys[2] == keys[3]  # a snapshot at the end is the end
    assert {backbone_trajectory(one) for one in snapshots} == {keys[3]}
    assert backbone_trajectory(spec(text, snapshot=5, seed=2)) != keys[3]
    longer = spec(text, snapshot=20, steps=40)  # its schedule is another
    assert backbone_key(longer) != keys[3]


def test_key_stands_for_the_text_that_is_read(text, tmp_path):
    key = backbone_key(spec(text))
    (text / "test.txt").write_text("never read\n")
    assert backbone_key(spec(text)) == key
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "corpus.txt").write_text("a line of train\n")
    (elsewhere / "dev.txt").write_text("a line of validation\n")
    named = spec(text, text={"path": str(elsewhere), "splits": {"train": "corpus.txt", "validation": "dev.txt"}})
    assert backbone_key(named) == key
    (text / "validation.txt").write_text("another line\n")
    assert backbone_key(spec(text)) != key


def test_a_tokenizer_left_out_is_the_default_written_out(text):
    assert backbone_key(spec(text, tokenizer={})) == backbone_key(spec(text))
    assert backbone_key(spec(text, tokenizer={"kind": "wordpiece", "vocab_size": 8000})) == backbone_key(spec(text))
    assert backbone_key(spec(text, tokenizer={"kind": "bpe"})) != backbone_key(spec(text))


def test_key_stands_for_the_files_of_a_start_and_of_a_tokenizer(text, tmp_path):
    start = tmp_path / "start"
    start.mkdir()
    for name, content in {"config.json": "{}", "model.safetensors": "w", "tokenizer.json": "t"}.items():
        (start / name).write_text(content)
    from_start, with_tokenizer = spec(text, start=str(start)), spec(text, tokenizer=str(start))
    keys = [backbone_key(from_start), backbone_key(with_tokenizer)]
    moved = start.rename(tmp_path / "moved")
    from_start, with_tokenizer = spec(text, start=str(moved)), spec(text, tokenizer=str(moved))
    assert [backbone_key(from_start), backbone_key(with_tokenizer)] == keys
    (moved / "model.safetensors").write_text("v")
    assert backbone_key(from_start) != keys[0]
    assert backbone_key(with_tokenizer) == keys[1]  # the weights beside a tokenizer say nothing
    (moved / "tokenizer.json").write_text("u")
    assert backbone_key(with_tokenizer) != keys[1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"architecture": {}}, "either architecture"),
        ({"architecture": {"model_type": "bert"}, "start": "x/y"}, "either architecture"),
        ({"architecture": {"hidden_size": 3}}, "model_type"),
        ({"start": "x/y", "tokenizer": {"kind": "bpe"}}, "its own"),
        ({"snapshot": 21}, "past the end of the run, 20 steps"),
        ({"text": {"path": "x", "splits": {"test": "y"}}}, "train"),
        ({"tokenizer": {"vocab_size": 200}}, "300"),
    ],
)
def test_what_a_spec_alone_shows_to_be_wrong(text, fields, message):
    with pytest.raises(ValidationError, match=message):
        spec(text, **fields)


def test_a_spec_survives_json(text):
    for one in (spec(text, start="x/y"), spec(text, snapshot=3), spec(text, text={"hub": "a/b", "subset": "c"})):
        assert TextBackbone.model_validate(one.model_dump(mode="json")) == one


def test_files_of_a_text(text):
    assert text_files(TextFiles(path=str(text))) == {s: text / f"{s}.txt" for s in ("train", "validation")}
    assert text_files(TextFiles(path=str(text / "test.txt"))) == {"train": text / "test.txt"}
    (text / "dev.txt").write_text("x\n")
    with pytest.raises(RaymcError, match=r"two files for split 'validation': dev\.txt, validation\.txt"):
        text_files(TextFiles(path=str(text)))
    with pytest.raises(RaymcError, match="no file or folder"):
        text_files(TextFiles(path=str(text / "absent")))
    with pytest.raises(RaymcError, match="names no train file"):
        text_files(TextFiles(path=str(text), splits={"validation": "dev.txt"}))
    (text / "train.txt").unlink()
    (text / "dev.txt").unlink()
    with pytest.raises(RaymcError, match=r"holds no train\.txt"):
        text_files(TextFiles(path=str(text)))


@pytest.mark.parametrize(
    ("architecture", "limit"),
    [
        ({"model_type": "bert"}, 64),
        ({"model_type": "bert", "max_position_embeddings": 512}, 512),
        ({"model_type": "gpt2", "n_positions": 100}, 100),
        ({"model_type": "roberta", "max_position_embeddings": 514}, 512),
        ({"model_type": "t5"}, None),
    ],
)
def test_positions(text, architecture, limit):
    assert positions(ModelSpec(backbone=spec(text, architecture=architecture, max_length=64))) == limit
