"""The same rows out of every format, text left as it was written, and one line about what is wrong."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from pyarrow import parquet

from raymc.specs.errors import RaymcError
from raymc.specs.task import TaskSpec
from raymc.tasks import columns as columns_module
from raymc.tasks.rows import Rows, check_labels, label_names, read_rows, task_faults

FORMATS = ("jsonl", "csv", "tsv", "parquet")
Table = list[dict[str, Any]]


def encode(table: Table, kind: str) -> bytes:
    names = list(table[0])
    if kind == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in table).encode()
    if kind == "parquet":
        out = pa.BufferOutputStream()
        parquet.write_table(pa.Table.from_pylist(table), out)
        return out.getvalue().to_pybytes()
    if kind == "tsv":
        return "".join("\t".join(map(str, line)) + "\n" for line in [names, *(row.values() for row in table)]).encode()
    text = io.StringIO()
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue().encode()


@pytest.fixture
def task(tmp_path: Path) -> Callable[..., TaskSpec]:
    """task("csv", train=rows or bytes, **fields): a task whose splits are files of one format."""

    def make(kind: str = "jsonl", fields: dict[str, Any] | None = None, **splits: Table | bytes | str) -> TaskSpec:
        for split, content in splits.items():
            if isinstance(content, str):
                content = content.encode()
            data = content if isinstance(content, bytes) else encode(content, kind)
            (tmp_path / f"{split}.{kind}").write_bytes(data)
        return TaskSpec.model_validate({"dataset": {"path": str(tmp_path)}, **(fields or {})})

    return make


def refused(task: TaskSpec, split: str = "train") -> str:
    with pytest.raises(RaymcError) as caught:
        read_rows(task, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What is read --------------------------------------------------------------------------------------------------------

TRICKY = [
    {"text": "a plain sentence", "label": "pos"},
    {"text": "2020-01-01", "label": "neg"},
    {"text": "2021-12-31T23:59:59Z", "label": "pos"},
    {"text": "NA", "label": "null"},
    {"text": "null", "label": "NA"},
    {"text": "nan", "label": "nan"},
    {"text": "None", "label": "N/A"},
    {"text": "007", "label": "01"},
    {"text": "1e3", "label": "1"},
    {"text": "true", "label": "false"},
    {"text": " spaces kept ", "label": "pos"},
    {"text": 'she said "no", twice', "label": "neg"},
    {"text": '"quoted"', "label": "neg"},
    {"text": "it's \\ here", "label": "neg"},
    {"text": "caf\u00e9 \u4f60\u597d \U0001f600 \u2028 separator", "label": "gut"},
]


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_rows_as_they_were_written(task, kind: str):
    found = read_rows(task(kind, train=TRICKY), "train")
    assert found.text == [row["text"] for row in TRICKY]
    assert found.labels == [row["label"] for row in TRICKY]
    assert found.text_pair is None
    assert len(found) == len(TRICKY)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    "texts", [["2020-01-01", "2021-02-03"], ["1", "22"], ["true", "false"], ["NA", "null"], ["12:30", "13:45"]]
)
@pytest.mark.parametrize("column", ["text", "label"])
def test_a_whole_column_of_lookalikes_stays_text(task, kind: str, texts: list[str], column: str):
    """Readers guess a type from all values of a column: here every one looks like a date, a number or nothing."""
    other = {"text": "label", "label": "text"}[column]
    found = read_rows(task(kind, train=[{column: texts[0], other: "x"}, {column: texts[1], other: "y"}]), "train")
    assert (found.text if column == "text" else found.labels) == texts


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    ("labels", "names"), [([1, 0, 10], ["1", "0", "10"]), ([True, False, True], ["True", "False", "True"])]
)
def test_typed_labels_become_their_names(task, kind: str, labels: list[Any], names: list[str]):
    table = [{"text": f"row {i}", "label": label} for i, label in enumerate(labels)]
    assert read_rows(task(kind, train=table), "train").labels == names


@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_labels_of_untyped_formats_are_as_written(task, kind: str):
    table = [{"text": f"row {i}", "label": label} for i, label in enumerate(["1", "01", "True", "true"])]
    assert read_rows(task(kind, train=table), "train").labels == ["1", "01", "True", "true"]


@pytest.mark.parametrize("kind", FORMATS)
def test_pairs_and_columns_of_other_names(task, kind: str):
    table = [
        {"id": i, "premise": f"p {i}", "hypothesis": f"h {i}", "gold": ("a", "b")[i % 2], "text": "not this"}
        for i in range(5)
    ]
    found = read_rows(task(kind, {"text": "premise", "text_pair": "hypothesis", "label": "gold"}, train=table), "train")
    assert found.text == [f"p {i}" for i in range(5)]
    assert found.text_pair == [f"h {i}" for i in range(5)]
    assert found.labels == list("ababa")


@pytest.mark.parametrize("kind", FORMATS)
def test_empty_text_is_text(task, kind: str):
    table = [{"text": "", "label": "a"}, {"text": "x", "label": "b"}]
    assert read_rows(task(kind, train=table), "train").text == ["", "x"]


def test_bare_quotes_in_tsv_join_no_lines(task):
    """As in GLUE's files: a quote that is opened and never closed is a character of the text."""
    found = read_rows(task("tsv", train='text\tlabel\n"a b\tx\n""\ty\nc" d\tx\n'), "train")
    assert found.text == ['"a b', '""', 'c" d']
    assert found.labels == ["x", "y", "x"]


def test_quoted_csv_keeps_commas_quotes_and_line_breaks(task):
    found = read_rows(task("csv", train='text,label\n"a, ""b""\nc",x\nd,y\n'), "train")
    assert found.text == ['a, "b"\nc', "d"]


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("csv", "\ufefftext,label\r\na,x\r\nb,y"),
        ("tsv", "\ufefftext\tlabel\r\na\tx\r\nb\ty"),
        ("jsonl", '\ufeff{"text": "a", "label": "x"}\r\n\r\n{"text": "b", "label": "y"}'),
    ],
)
def test_byte_order_mark_carriage_returns_and_no_last_newline(task, kind: str, content: str):
    found = read_rows(task(kind, train=content), "train")
    assert (found.text, found.labels) == (["a", "b"], ["x", "y"])


def test_jsonl_columns_of_mixed_types_are_no_fault(task):
    table = [
        {"text": "a", "label": 1, "idx": 1, "more": {"x": 1}},
        {"text": "b", "label": "1", "idx": "two", "more": [1]},
        {"text": "c", "label": 0},
    ]
    assert read_rows(task(train=table), "train").labels == ["1", "1", "0"]


def test_parquet_categories_and_large_strings(task):
    out = pa.BufferOutputStream()
    columns = {"text": pa.array(["a", "b"], pa.large_string()), "label": pa.array(["x", "y"]).dictionary_encode()}
    parquet.write_table(pa.table(columns), out)
    found = read_rows(task("parquet", train=out.getvalue().to_pybytes()), "train")
    assert (found.text, found.labels) == (["a", "b"], ["x", "y"])


def test_splits_by_name_and_by_file(task, tmp_path: Path):
    spec = task(train=[{"text": "t", "label": "a"}], dev=[{"text": "v", "label": "a"}])
    assert read_rows(spec, "validation").text == ["v"]
    dataset = {"path": str(tmp_path), "splits": {"odd": "dev.jsonl"}}
    named = TaskSpec.model_validate({"dataset": dataset})
    assert read_rows(named, "odd").text == ["v"]


def test_the_grammar(task):
    spec = TaskSpec.model_validate({"dataset": {"builtin": "grammar", "train_rows": 30, "validation_rows": 7}})
    assert (len(read_rows(spec, "train")), len(read_rows(spec, "validation"))) == (30, 7)
    with pytest.raises(RaymcError, match="no such domain: 'moon'"):
        read_rows(TaskSpec.model_validate({"dataset": {"builtin": "grammar", "domain": "moon"}}), "train")


def test_shared_sets_are_read_whole(shared_data: Path):
    for name, text, pair in (("sst2", "text", None), ("mnli", "text_a", "text_b")):
        path = shared_data / name / "validation.jsonl"
        lines = [json.loads(line) for line in path.read_bytes().splitlines()]
        spec = TaskSpec.model_validate({"dataset": {"path": str(path.parent)}, "text": text, "text_pair": pair})
        found = read_rows(spec, "validation")
        assert found.text == [line[text] for line in lines]
        assert found.text_pair == (None if pair is None else [line[pair] for line in lines])
        assert found.labels == [str(line["label"]) for line in lines]


# What is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_a_missing_column_is_named_with_those_there_are(task, kind: str):
    spec = task(kind, {"text": "sentence"}, train=[{"text": "a", "label": "x"}])
    assert "no column 'sentence' (it has text, label)" in refused(spec)
    spec = task(kind, {"label": "gold"}, train=[{"text": "a", "label": "x"}])
    assert "no column 'gold'" in refused(spec)
    spec = task(kind, {"text_pair": "b"}, train=[{"text": "a", "label": "x"}])
    assert "no column 'b'" in refused(spec)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize("column", ["text", "label", "other"])
def test_a_null_is_refused_with_its_row(task, kind: str, column: str):
    table = [{"text": "a", "label": "x", "other": "c"} for _ in range(5)]
    table[3] = {**table[3], column: None}
    assert f"row 4 has no {column!r}" in refused(task(kind, {"text_pair": "other"}, train=table))


def test_a_field_that_one_line_lacks_is_a_null(task):
    table = [{"text": "a", "label": "x"}, {"label": "x"}]
    assert "row 2 has no 'text'" in refused(task(train=table))


@pytest.mark.parametrize("kind", FORMATS)
def test_an_empty_label_is_refused(task, kind: str):
    table = [{"text": "a", "label": "x"}, {"text": "b", "label": ""}]
    assert "row 2 has no 'label'" in refused(task(kind, train=table))


@pytest.mark.parametrize("value", [["a"], {"a": 1}])
def test_a_value_that_is_no_scalar_is_refused(task, value):
    kind = type(value).__name__
    assert f"row 1 has a {kind} as 'label'" in refused(task(train=[{"text": "a", "label": value}]))
    assert f"row 1 has a {kind} as 'text'" in refused(task(train=[{"text": value, "label": "a"}]))


@pytest.mark.parametrize(
    ("kind", "content", "said"),
    [
        ("jsonl", b"", "empty"),
        ("csv", b"", "empty"),
        ("parquet", b"", "empty"),
        ("jsonl", b"\n\n", "no rows"),
        ("csv", b"text,label\n", "no rows"),
        ("tsv", b"text\tlabel\n", "no rows"),
        ("jsonl", b'{"text": "a", "label": "x"}\n{"text": "b"\n', "line 2 is no JSON: Expecting"),
        ("jsonl", b"[1, 2]\n", "line 1 is no JSON object"),
        ("jsonl", b'{"text": "caf\xe9", "label": "a"}\n', "can't be read: 'utf-8' codec can't decode"),
        ("jsonl", b'{"text": "\\uD83d", "label": "a"}\n', "line 1 is no JSON: .*surrogates"),
        ("csv", b"text,label\ncaf\xe9,x\n", "can't be read: .*UTF8"),
        ("csv", b"text,label\na,x,1\n", "can't be read: CSV parse error: Expected 2 columns, got 3"),
        ("csv", b"text,text,label\na,b,x\n", "two columns are called 'text'"),
        ("parquet", b"no parquet", "can't be read: .*[Pp]arquet"),
    ],
)
def test_files_that_are_nothing(task, kind: str, content: bytes, said: str):
    spec = task(kind, train=content)
    with pytest.raises(RaymcError, match=f"train.{kind}.*{said}"):
        read_rows(spec, "train")
    refused(spec)


def test_half_a_surrogate_pair_is_refused_and_a_whole_one_read(task):
    whole = '{"text": "\\ud83d\\ude00", "label": "a"}\n'
    assert read_rows(task(train=whole), "train").text == ["\U0001f600"]


def test_an_absent_split_is_refused_with_those_there_are(task):
    spec = task(train=[{"text": "a", "label": "x"}], test=[{"text": "a", "label": "x"}])
    assert "no split 'validation'" in refused(spec, "validation")
    assert "(it has test, train)" in refused(spec, "validation")


# Labels --------------------------------------------------------------------------------------------------------------


def named(found: list[str], **fields: Any) -> tuple[str, ...]:
    """Label names of a task whose training rows have these labels."""
    spec = TaskSpec.model_validate({"dataset": {"builtin": "grammar"}, **fields})
    return label_names(spec, Rows(["x"] * len(found), None, found))


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        (["pos", "neg", "pos"], ("neg", "pos")),
        (["10", "9", "2", "0"], ("0", "2", "9", "10")),
        (["2", "-1", "-10", "0"], ("-10", "-1", "0", "2")),
        (["1.5", "-0.5", "10"], ("-0.5", "1.5", "10")),
        (["1", "01", "0"], ("0", "01", "1")),  # of one value, yet two labels
        (["10", "9", "x"], ("10", "9", "x")),
        (["\u00b2", "1", "\u0663"], ("1", "\u00b2", "\u0663")),  # digits to Unicode, not numbers to us
        (["nan", "inf", "1"], ("1", "inf", "nan")),
        (["True", "False"], ("False", "True")),
        (["b", "B", "a"], ("B", "a", "b")),
    ],
)
def test_order_of_the_labels(labels: list[str], order: tuple[str, ...]):
    assert named(labels) == order
    assert named(labels[::-1] * 2) == order


def test_labels_of_the_spec_keep_their_order_and_may_be_more_than_train_has():
    assert named(["a", "c"], labels=["c", "b", "a"]) == ("c", "b", "a")
    with pytest.raises(RaymcError, match=r"^training row 3 has label 'd', which is not among c, b, a$"):
        named(["a", "c", "d"], labels=["c", "b", "a"])


@pytest.mark.parametrize("fields", [{}, {"labels": ["a", "b"]}])
def test_one_class_is_refused(fields: dict[str, Any]):
    with pytest.raises(RaymcError, match="one label only: 'a'"):
        named(["a", "a"], **fields)


def test_check_labels_names_split_and_row():
    check_labels(Rows(["x"] * 2, None, ["a", "b"]), ("b", "a"), "validation")
    with pytest.raises(RaymcError, match=r"^validation row 2 has label 'c', which is not among a, b$"):
        check_labels(Rows(["x"] * 2, None, ["a", "c"]), ("a", "b"), "validation")


# Faults of a task, by field ------------------------------------------------------------------------------------------

GOOD = [{"text": "x", "label": "a"}, {"text": "y", "label": "b"}]
WHERE = {"train": "task.train_split", "validation": "connectivity.splits"}


def faults(spec: TaskSpec, splits: dict[str, str] = WHERE) -> list[tuple[str, str]]:
    return list(task_faults(spec, splits))


def test_no_fault(task):
    assert faults(task(train=GOOD, validation=GOOD)) == []
    assert faults(TaskSpec.model_validate({"dataset": {"builtin": "grammar"}})) == []


def test_an_absent_split_is_a_fault_of_the_field_that_names_it(task):
    assert faults(task(train=GOOD)) == [("connectivity.splits", "no split 'validation' in the dataset (it has train)")]


@pytest.mark.parametrize("field", ["text", "text_pair", "label"])
def test_an_absent_column_is_a_fault_of_its_field(task, field: str):
    found = faults(task(fields={field: "nonesuch"}, train=GOOD, validation=GOOD))
    assert [where for where, _ in found] == [field]  # once, though both splits lack it
    assert "no column 'nonesuch'" in found[0][1]


def test_labels_are_checked_in_every_split(task):
    odd = [{"text": "x", "label": "c"}]
    (where, message), *rest = faults(task(train=GOOD, validation=odd))
    assert (where, rest) == ("dataset", [])
    assert message == "validation row 1 has label 'c', which is not among a, b"
    ((where, message),) = faults(task(fields={"labels": ["a", "z"]}, train=GOOD, validation=GOOD[:1]))
    assert where == "labels"
    assert "training row 2 has label 'b'" in message


def test_one_class_and_a_missing_folder_are_faults_of_the_dataset(task, tmp_path: Path):
    ((where, message),) = faults(task(train=GOOD[:1] * 3, validation=GOOD))
    assert where == "dataset"
    assert "one label only" in message
    gone = TaskSpec.model_validate({"dataset": {"path": str(tmp_path / "gone")}})
    ((where, message),) = faults(gone)
    assert where == "dataset.path"
    assert "no file or folder" in message


# The hub -------------------------------------------------------------------------------------------------------------

HUB = {"dataset": {"hub": "owner/set", "subset": "one", "revision": "0" * 40}, "text": "sentence"}


def test_the_hub_is_not_fetched_to_look_for_faults(monkeypatch):
    def fetched(*arguments: Any, **options: Any):
        raise AssertionError("fetched")

    monkeypatch.setattr(datasets, "load_dataset", fetched)
    monkeypatch.setattr(columns_module, "hub_commit", fetched)
    assert faults(TaskSpec.model_validate({"dataset": {"hub": "owner/set"}})) == []


def test_a_hub_split_gives_label_names_at_the_pinned_commit(monkeypatch):
    asked: dict[str, Any] = {}

    def load(name: str, subset: str, **options: Any) -> datasets.Dataset:
        asked.update(options, name=name, subset=subset)
        features = datasets.Features(
            {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
        )
        return datasets.Dataset.from_dict({"sentence": ["x", "y"], "label": [1, asked["second"]]}, features=features)

    monkeypatch.setattr(datasets, "load_dataset", load)
    spec = TaskSpec.model_validate(HUB)
    asked["second"] = 0
    found = read_rows(spec, "train")
    assert (found.text, found.labels) == (["x", "y"], ["pos", "neg"])
    assert (asked["name"], asked["subset"], asked["split"]) == ("owner/set", "one", "train")
    assert asked["revision"] == "0" * 40
    asked["second"] = -1  # how the hub marks rows without a label
    assert refused(spec, "test") == "owner/set split test: row 2 has no 'label'"


def test_a_hub_set_that_is_not_there_is_one_line(monkeypatch):
    def missing(*arguments: Any, **options: Any):
        raise FileNotFoundError("Couldn't find it\nand much more")

    monkeypatch.setattr(datasets, "load_dataset", missing)
    assert refused(TaskSpec.model_validate(HUB)) == "dataset owner/set, split train: Couldn't find it"
