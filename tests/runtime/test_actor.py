"""What an evaluator says of faults: a task's own, its machine's, and those of memory. No Ray."""

from __future__ import annotations

import dataclasses
import errno
import re
import socket
from pathlib import Path
from typing import Any

import pytest
import torch

from raymc.connectivity.work import EndpointTask, PairTask
from raymc.runtime.actor import EvaluatorActor, EvaluatorSettings, Report, Work
from raymc.runtime.crew import _token_sets
from raymc.specs.errors import StorageFault, TrainingFault
from raymc.specs.resources import EvaluatorResources
from raymc.specs.results import Evaluation, Profile
from raymc.store.store import Store

SETTINGS = EvaluatorSettings("", 1.0, 0.0, 1 << 20, 64)


def task(b: str) -> PairTask:
    return PairTask("a", b, "weights", "linear", ("validation",), ("path",), records=("group",))


def profile(a: str, b: str) -> Profile:
    numbers: dict[str, Any] = dict.fromkeys(("rows", "tokens", "p_value", "distance_l2", "cosine", "seconds"), 1)
    line: dict[str, Any] = {"t": (0.0, 1.0), "loss": (0.5, 0.5), "metrics": {}, "length": (0.0, 1.0)}
    said = {"a_weights": "x", "b_weights": "y", "curve": "linear", "space": "weights", "split": "validation"}
    return Profile(a=a, b=b, device="cpu", **said, **line, **numbers)


class Scores:
    """In an evaluator's place: what `faults` has for an end is raised, a number of times."""

    token_budget = 64

    def __init__(self, faults: dict[str, list[Exception]]):
        self.faults, self.loads = faults, 0

    def expect(self, tasks: Any) -> None:
        pass

    def pair(self, task: PairTask, ends: Any) -> list[Profile]:
        self._score(task.b)
        return [profile(task.a, task.b)]

    def endpoint(self, task: EndpointTask) -> list[Evaluation]:
        self._score(task.key)
        return []

    def _score(self, key: str) -> None:
        self.loads += 1
        if self.faults.get(key):
            raise self.faults[key].pop()


class Actor(EvaluatorActor):
    def __init__(self, place: Path, **faults: Exception | list[Exception]):
        self._settings, self._store, self.made = SETTINGS, Store(place), 0
        self.faults = {key: one if isinstance(one, list) else [one] for key, one in faults.items()}
        self._evaluator = self._make()

    def _make(self) -> Any:
        self.made += 1
        return Scores(self.faults)


def work(*keys: str) -> Work:
    return Work([(task(key), {}) for key in keys])


def test_a_machine_that_cannot_write_is_no_task_s_fault_and_what_it_scored_is_kept(tmp_path):
    actor = Actor(tmp_path, c=TrainingFault("not finite"), d=StorageFault("mirror: No space left on device"))
    fault = actor.pairs(work("b", "c", "bb", "d", "e"))
    assert isinstance(fault, StorageFault)
    assert str(fault).startswith(f"machine {socket.gethostname()}: mirror: No space left on device; what is finished ")
    assert "\n" not in str(fault)
    assert Store(tmp_path).records("profiles", "group") == {"a-b", "a-bb"}
    assert actor.loads == 4  # nothing after it was tried


def test_a_task_s_own_fault_is_its_own(tmp_path):
    report = Actor(tmp_path, c=TrainingFault("not finite")).pairs(work("b", "c", "d"))
    assert isinstance(report, Report)
    assert [str(error) for error in report.errors] == ["None", "not finite", "None"]
    with pytest.raises(ZeroDivisionError):
        Actor(tmp_path, c=ZeroDivisionError()).pairs(work("c"))
    with pytest.raises(OSError, match="no such thing"):
        Actor(tmp_path, c=OSError("no such thing")).evaluate(EndpointTask("c", "weights", ()))


def test_a_store_that_cannot_be_written_at_the_end_is_told_too(tmp_path):
    actor = Actor(tmp_path / "store")
    (tmp_path / "store").write_text("a file where the folder was")
    assert isinstance(actor.pairs(work("b")), StorageFault)


@pytest.mark.parametrize(
    "error", [StorageFault("s3://b can't be reached"), OSError(28, "No space left on device", "/tmp/x")]
)
def test_of_an_endpoint_too(tmp_path, error):
    said = Actor(tmp_path, c=error).evaluate(EndpointTask("c", "weights", ()))
    assert isinstance(said, StorageFault)
    assert str(said).startswith(f"machine {socket.gethostname()}: ")


def exhausted() -> Exception:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has ...")


def test_memory_that_ran_out_is_tried_once_with_nothing_else_held(tmp_path):
    actor = Actor(tmp_path, c=[exhausted()])
    report = actor.pairs(work("b", "c", "d"))
    assert isinstance(report, Report)
    assert list(report.errors) == [None, None, None]
    assert (report.loads, actor.made) == (4, 2)
    assert Store(tmp_path).records("profiles", "group") == {"a-b", "a-c", "a-d"}


def test_what_does_not_fit_the_memory_is_the_task_s_fault_and_says_what_to_change(tmp_path):
    actor = Actor(tmp_path, c=[exhausted(), MemoryError()])
    report = actor.pairs(work("b", "c", "d"))
    assert isinstance(report, Report)
    assert [error is None for error in report.errors] == [True, False, True]
    line = str(report.errors[1])
    assert line.startswith("it doesn't fit the memory (tried to allocate 2.50 gib) with 64 tokens a pass: ")
    for field in re.findall(r"resources\.evaluator\.(\w+)", line):
        assert field in EvaluatorResources.model_fields
    assert "resources.evaluator.token_budget" in line


def test_a_machine_that_cannot_read_the_storage_says_so_when_it_is_asked_whether_it_is_ready(tmp_path, monkeypatch):
    def unreadable(actor: EvaluatorActor) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(EvaluatorActor, "_make", unreadable)
    actor = EvaluatorActor(dataclasses.replace(SETTINGS, storage=str(tmp_path)), None)
    with pytest.raises(StorageFault, match=f"^machine {re.escape(socket.gethostname())}: .*no space left"):
        actor.ready()


def test_so_does_one_that_makes_the_rows_into_tokens(monkeypatch):
    def full(*given: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("raymc.connectivity.token_sets.token_sets", full)
    monkeypatch.setattr("raymc.specs.sweep.SweepSpec.model_validate_json", lambda text: None)
    with pytest.raises(StorageFault, match=f"^machine {re.escape(socket.gethostname())}: storage /s: no space left"):
        _token_sets("{}", "/s", [], {})
