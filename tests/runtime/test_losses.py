"""What Ray said when processes and machines were ended for real, and how often work is tried again."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from raymc.runtime.losses import LOSSES, Loss, Tries, disk_full, halted, last_line, loss_of
from raymc.specs.errors import RaymcError, StorageFault

KILLED = """The actor died unexpectedly before finishing this task.
\tclass_name: A
\tactor_id: e5840c078c5c12aafb8b0e2101000000
\tpid: 27444
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker \
unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the process was killed \
by the OOM killer due to high memory usage, (2) ray stop --force was called, or (3) the worker crashed unexpectedly."""
NODE = """The actor died unexpectedly before finishing this task.
\tclass_name: A
The actor died because its node has died. Node Id: 322af2a92ef6602d726282e170236882a3317cbaabebf2cb374eecb7
\tthe actor's node was terminated unexpectedly: health check failed due to missing too many heartbeats"""
AWAY = (
    "The actor e296865a3295303bd9affb2a01000000 is unavailable: The actor is temporarily unavailable: RpcError: RPC "
    "error: Socket closed rpc_code: 14. The task may or may not have been executed on the actor."
)
MEMORY = """OutOfMemoryError: 1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: \
192.0.2.2, ID: 111d5b5d) was 5.40GB used / 23.54GB limit (0.229349)
OOM kill reason: Memory usage 5712252928B exceeded threshold of 505530016B (2.0% of 25276502016B limit)"""
RAISED = """ray::ImplicitFunc.train() (pid=1, ip=127.0.0.1)
  File "x.py", line 3, in train
    raise ValueError("no such thing")
ValueError: no such thing"""
GROUP = f"""Training failed due to worker errors:
[Rank 0 Error Snippet]:
{NODE}
[Rank 1 Error Snippet]:
RuntimeError: [../third_party/gloo/gloo/transport/tcp/pair.cc:537] Connection closed by peer"""
STARTING = """ray::ImplicitFunc.train() (pid=1, ip=127.0.0.1)
ray.train.ControllerError: Training failed due to controller error:
At least one of the worker actors failed to initialize."""
BEGINNING = f"The actor died because of an error raised in its creation task, {RAISED}"


@pytest.mark.parametrize(
    ("text", "cause", "reason"),
    [
        (KILLED, "process", "its worker died"),
        (NODE, "node", "its node was lost"),
        (AWAY, "node", "its node was lost"),
        (GROUP, "node", "its node was lost"),
        (MEMORY, "memory", "its worker was killed as its machine ran low on memory"),
        (RAISED, "error", "ValueError: no such thing"),
        (BEGINNING, "error", "ValueError: no such thing"),
        (STARTING, "node", "its workers were lost as they began"),
        ("", "error", "its worker died"),
    ],
)
def test_what_was_lost(text: str, cause: str, reason: str):
    assert loss_of(text) == Loss(cause, reason)


def test_an_exception_is_read_with_what_it_came_from():
    error = RuntimeError("the group failed")
    error.__cause__ = ValueError(NODE)
    assert loss_of(error).cause == "node"


def test_tries_are_counted_and_lost_nodes_only_in_a_row():
    tries = Tries(2)
    died, lost = Loss("process", "its worker died"), Loss("node", "its node was lost")
    assert tries.again(died) is None
    assert all(tries.again(lost) is None for _ in range(LOSSES))
    tries.reached(10)
    assert all(tries.again(lost) is None for _ in range(LOSSES))
    tries.reached(10)  # no further than before
    assert tries.again(lost) == f"its node was lost {LOSSES + 1} times without getting any further"
    assert tries.again(died) is None
    assert tries.again(died) == "its worker died (3 tries)"


def test_no_retries():
    assert Tries(0).again(Loss("error", "x")) == "x (1 try)"
    assert Tries(0).again(Loss("node", "its node was lost")) is None


def test_a_full_disk_is_told_from_other_faults():
    with pytest.raises(OSError, match="No space left") as caught, Path("/dev/full").open("r+b", buffering=0) as file:
        file.write(b"x")
    told = disk_full(caught.value, "/storage")
    assert told is not None
    assert "/storage: no space left on device" in str(told)
    said = 'Error while serializing: I/O error: Os { code: 28, kind: StorageFull, message: "No space left on device" }'
    assert disk_full(RuntimeError(said), "/storage") is not None  # safetensors has a class of its own
    assert disk_full(FileNotFoundError(2, "No such file or directory"), "/storage") is None
    assert disk_full(RuntimeError("CUDA out of memory"), "/storage") is None


@pytest.mark.parametrize(
    "fault",
    [
        "storage /mirror can't be written: No space left on device",
        "storage s3://b can't be reached (waited 300 s); everything finished is kept, the same command goes on",
        "storage /mirror can't be written: Read-only file system",
    ],
)
def test_a_fault_of_the_storage_names_the_machine_and_says_once_what_is_kept(fault: str):
    error = RaymcError("a task")
    error.__cause__ = StorageFault(fault)
    told = halted(error, "s3://b")
    assert told is not None
    assert str(told).startswith(f"machine {socket.gethostname()}: {fault}")
    assert str(told).count("kept") == 1
    assert str(halted(told, "s3://b")).count("kept") == 1
    assert halted(RaymcError("a task"), "s3://b") is None
    other = halted(StorageFault(f"machine another: {fault}"), "s3://b")
    assert str(other).startswith(f"machine another: {fault}")
    assert str(other).count("machine") == str(other).count("kept") == 1


def test_the_last_line_is_the_exception():
    assert last_line(RAISED + "\n\n") == "ValueError: no such thing"
    assert last_line("") == ""
