"""Where and how hard to work: nothing here changes what is computed, so nothing here is part of a key."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_serializer

from raymc.specs.base import Count, Flag, NonNegative, Positive, Spec, Whole
from raymc.specs.secrets import without_secrets

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def _bytes(value: object) -> object:
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]i?B)?\s*", value, re.IGNORECASE)
        if not match:
            raise ValueError("not a size in bytes, such as 512MiB or 2GB")
        return int(Decimal(match[1]) * _UNITS[(match[2] or "").upper()])
    return value


Bytes = Annotated[int, BeforeValidator(_bytes, json_schema_input_type=int | str), Field(strict=True, ge=1)]
Gpus = Annotated[
    Annotated[NonNegative, Tag("number")] | Annotated[Literal["auto"], Tag("auto")],
    Discriminator(lambda value: "auto" if isinstance(value, str) else "number"),
]
MicroBatch = Annotated[
    Annotated[Count, Tag("number")] | Annotated[Literal["auto"], Tag("auto")],
    Discriminator(lambda value: "auto" if isinstance(value, str) else "number"),
]


class TrialResources(Spec):
    workers: Count = Field(default=1, description="1: inside the Tune trial; more: Ray Train")
    cpus: Positive = Field(default=1.0, description="CPUs a worker; its torch threads")
    gpus: Gpus = Field(
        default="auto",
        description="GPUs a worker; auto: 1 where the cluster has any. A part, such as 0.25: as many small trials as "
        "fit share a GPU, each with that part of its memory",
    )
    strategy: Literal["ddp", "fsdp"] = Field(default="ddp", description="with two workers or more")
    micro_batch: MicroBatch | None = Field(
        default="auto",
        description="most rows that a worker takes through the model at a time; the gradients are those of the whole "
        "batch, up to rounding, and dropout draws its masks by pass. auto: all of them, and half as many as ran out of "
        "memory; null: all of them",
    )


class EvaluatorResources(Spec):
    actors: Count | None = Field(default=None, description="left out: as many as the cluster places")
    cpus: Positive = Field(default=1.0, description="CPUs an actor; its torch threads")
    gpus: Gpus = Field(
        default="auto", description="GPUs an actor, a part of one too; auto: one where the cluster has GPUs"
    )
    cache: Bytes = Field(default=2 * 2**30, description="bytes of endpoints an actor keeps, such as 2GiB")
    token_budget: Count | None = Field(
        default=None, description="padded tokens a batch; left out: 2048 on a CPU, 16384 on a GPU"
    )
    compile: Literal["auto", "on", "off"] = Field(
        default="auto", description="auto: CUDA graphs where a GPU is faster with them; on: torch.compile"
    )


class Resources(Spec):
    trial: TrialResources = Field(default=TrialResources(), description="of one training")
    evaluator: EvaluatorResources = Field(default=EvaluatorResources(), description="of one actor that scores pairs")


class Failure(Spec):
    """What may go wrong how often before it is reported."""

    trial_retries: Whole = Field(
        default=2, description="of a training that dies, before its minimum is reported as failed"
    )
    pair_retries: Whole = Field(default=2, description="of a pair whose actor dies, before it is reported as failed")
    checkpoint_every: Whole = Field(default=100, description="steps between checkpoints of a running trial; 0: none")


class Tracking(Spec):
    enabled: Flag = Field(default=True, description="whether MLflow is told of the sweep")
    uri: str | None = Field(default=None, description="MLflow tracking URI; left out: sqlite under the storage")
    experiment: str = Field(default="raymc", min_length=1, description="MLflow experiment")
    log_every: Count = Field(default=10, description="steps between points of the training curve")

    @field_serializer("uri")
    def _without_password(self, uri: str | None) -> str | None:
        """A spec that is written anywhere has no password in it."""
        return None if uri is None else without_secrets(uri)
