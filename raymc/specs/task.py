"""What a model is tuned on and scored on: a dataset and how its columns are read."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, field_validator

from raymc.specs.base import Count, Fraction, Seed, Spec, Whole, variant_of

GRAMMAR_VERSION = 1  # bumped when the built-in grammar's rows change: it is part of every key made from them
GRAMMAR_POSITIONS = 32  # tokens that a built-in backbone can read; the grammar's longest row is well below


class LocalDataset(Spec):
    """JSONL, CSV, TSV or Parquet on disk: one file a split."""

    path: str = Field(min_length=1, description="folder with train.*, validation.*, test.*; or one file (split: train)")
    splits: dict[str, str] = Field(default={}, description="split name: file, where files are named otherwise")


class HubDataset(Spec):
    """A dataset of the Hugging Face hub, through the `datasets` library."""

    hub: str = Field(min_length=1, description="hub id, such as stanfordnlp/sst2")
    subset: str | None = Field(default=None, description="configuration of the dataset")
    revision: str | None = Field(default=None, description="branch, tag or commit; left out: the newest")


class GrammarDataset(Spec):
    """The built-in classification task on sentences of raymc's grammar. Needs no download.

    Row i of a split is a pure function of (seed, domain, split, i), so two training sets overlap exactly where
    their index ranges do.
    """

    builtin: Literal["grammar"]
    domain: str = Field(default="village", description="lexicon of the sentences; the label set is the same")
    seed: Seed = Field(default=0, description="of the sentences")
    train_rows: Count = Field(default=2000, description="rows to train on")
    train_start: Whole = Field(default=0, description="index of the first row")
    validation_rows: Count = Field(default=500, description="rows of the validation split")
    test_rows: Count = Field(default=500, description="rows of the test split")
    label_noise: Fraction = Field(default=0.0, description="share of training rows given a wrong label, exactly")


_DATASETS = {"path": "LocalDataset", "hub": "HubDataset", "builtin": "GrammarDataset"}


Dataset = Annotated[
    Annotated[LocalDataset, Tag("LocalDataset")]
    | Annotated[HubDataset, Tag("HubDataset")]
    | Annotated[GrammarDataset, Tag("GrammarDataset")],
    Discriminator(
        lambda value: variant_of(value, _DATASETS, "LocalDataset"),
        custom_error_type="variant",
        custom_error_message="needs one of path, hub and builtin",
    ),
]


class Subset(Spec):
    """`rows` training rows, a window on a seeded order of all of them.

    The window of overlap 1 is the first `rows` of that order; one of overlap p shares exactly round(p x rows) rows
    with it, so any two windows of the same rows and seed share a share of 1 - |p - q| of them (0 at least). Rows that
    are shared keep their places in the order of training. It takes (2 - p) x rows training rows.
    """

    rows: Count = Field(description="of the window")
    seed: Seed = Field(default=0, description="of the order that windows are cut from")
    overlap: Fraction = Field(default=1.0, description="share of rows in common with the window of overlap 1")


class TaskSpec(Spec):
    """Single-sentence or sentence-pair classification."""

    kind: Literal["classification"] = "classification"
    dataset: Dataset = Field(description="where the rows come from")
    text: str = Field(default="text", description="column of the sentence (of a pair: the first)")
    text_pair: str | None = Field(default=None, description="column of the second sentence")
    label: str = Field(default="label", description="column of the label")
    labels: tuple[str, ...] | None = Field(default=None, description="label names in order; default: sorted, of train")
    rename: dict[str, str] = Field(default={}, description="label in the data: label name, to match another dataset's")
    prompt: str | None = Field(
        default=None,
        description="how a row becomes the input of a seq2seq or causal model, with {text} and {text_pair}; left out: "
        "the texts, a line each",
    )
    targets: dict[str, str] = Field(
        default={}, description="label name: text that a seq2seq or causal model is to give; left out: the name itself"
    )
    train_split: str = Field(default="train", description="the split that is trained on")
    subset: Subset | None = Field(default=None, description="training rows; left out: all of them")
    label_noise: Fraction = Field(default=0.0, description="share of training rows given a wrong label, exactly")
    noise_seed: Seed = Field(default=0, description="which rows, and which wrong label; more noise contains less")
    max_length: Annotated[int, Field(strict=True, ge=2)] = Field(default=128, description="tokens; longer rows are cut")

    @field_validator("labels")
    @classmethod
    def _distinct(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and len(set(value)) != len(value):
            raise ValueError("names a label twice")
        if value is not None and len(value) < 2:
            raise ValueError("needs at least two names")
        return value


def training_row_count(task: TaskSpec, split_rows: int) -> int:
    """How many rows a task trains on, of a training split of so many: epochs are counted over them."""
    return split_rows if task.subset is None else task.subset.rows
