from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymc.specs.errors import RaymcError
from raymc.specs.text import HubText, TextFiles
from raymc.tasks import corpus
from raymc.tasks.corpus import pack, read_corpus, token_stream


def test_lines_are_kept_as_they_are_and_blank_ones_skipped(tmp_path: Path):
    (tmp_path / "train.txt").write_bytes(b"\xef\xbb\xbf = Title = \r\n \n\n\tone  two \nlast\x0bline")
    (tmp_path / "dev.txt").write_text("held\n")
    read = read_corpus(TextFiles(path=str(tmp_path)))
    assert read.train == [" = Title = ", "\tone  two ", "last\x0bline"]
    assert (read.validation, read.held_out) == (["held"], False)


@pytest.mark.parametrize(("lines", "held"), [(2, 1), (20, 1), (21, 2), (100, 5)])
def test_without_a_validation_text_the_last_twentieth_is_held_out(tmp_path: Path, lines: int, held: int):
    (tmp_path / "all.txt").write_text("".join(f"line {i}\n" for i in range(lines)))
    read = read_corpus(TextFiles(path=str(tmp_path / "all.txt")))
    assert len(read.validation) == held
    assert [*read.train, *read.validation] == [f"line {i}" for i in range(lines)]
    assert read.held_out


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "no text"), (b" \n\n", "no text"), (b"one", "one line"), (b"\xff\n", "UTF-8")]
)
def test_texts_that_are_none(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "all.txt").write_bytes(content)
    with pytest.raises(RaymcError, match=message):
        read_corpus(TextFiles(path=str(tmp_path / "all.txt")))


def test_a_dataset_of_the_hub(monkeypatch: pytest.MonkeyPatch):
    import datasets

    table = datasets.DatasetDict(
        {
            "train": datasets.Dataset.from_dict({"body": ["one\n\ntwo", None, "three"]}),
            "test": datasets.Dataset.from_dict({"body": ["four"]}),
        }
    )
    asked = []

    def load(*names: object, **options: object) -> datasets.DatasetDict:
        asked.append((*names, options))
        return table

    monkeypatch.setattr(datasets, "load_dataset", load)
    commit = "0" * 40
    read = read_corpus(HubText(hub="a/b", subset="c", revision=commit, column="body"))
    assert (read.train, read.validation, read.held_out) == (["one", "two"], ["three"], True)
    assert asked == [("a/b", "c", {"revision": commit})]
    with pytest.raises(RaymcError, match=r"no column 'text' in its split train \(it has body\)"):
        read_corpus(HubText(hub="a/b", revision=commit))


def test_stream_is_all_texts_in_order(tokenizer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(corpus, "_AT_ONCE", 2)
    texts = ["the cat runs", "", "a dog", "the bird", "awful"]
    ids = [tokenizer.convert_tokens_to_ids(text.split()) for text in texts]
    assert token_stream(tokenizer, texts, None).tolist() == [i for row in ids for i in row]
    assert token_stream(tokenizer, texts, 3).tolist() == [i for row in ids for i in (*row, 3)]


@given(st.integers(2, 60), st.integers(4, 20), st.booleans())
def test_packed_rows_are_the_stream(size: int, length: int, ends: bool):
    stream = np.arange(100, 100 + size, dtype=np.int32)
    before, after = ([2], [3]) if ends else ([], [])
    rows = pack(stream, length, before, after)
    inner = rows[:, 1:-1] if ends else rows
    assert not ends or (set(rows[:, 0]), set(rows[:, -1])) == ({2}, {3})
    left = size - inner.size
    assert inner.flatten().tolist() == stream[: size - left].tolist()
    assert rows.shape[1] == length or (len(rows) == 1 and not left)
    assert left < inner.shape[1]


def test_no_tokens_are_no_rows():
    with pytest.raises(RaymcError, match="1 tokens in all"):
        pack(np.ones(1, dtype=np.int32), 8)
