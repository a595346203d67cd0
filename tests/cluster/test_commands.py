"""Commands that cluster/'s pages and headers show: raymc's own are parsed, the rest is sound bash; files are there."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from raymc.cli.parser import parser
from raymc.specs.load import load_spec

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
STARTS = "raymc |cluster/|kubectl |sbatch |podman |helm |export "


def blocks() -> list[str]:
    """The README's shell blocks, and the indented lines of each file's header."""
    found = re.findall(r"```sh\n(.*?)```", (CLUSTER / "README.md").read_text(), re.DOTALL)
    for path in sorted(CLUSTER.rglob("*")):
        if path.is_file() and path.suffix != ".md":
            lines = [
                re.split(r" {3,}", line[4:])[0] for line in path.read_text().splitlines() if line.startswith("#   ")
            ]
            found.append("\n".join(line for line in lines if re.match(rf"({STARTS})", line)))
    return [block for block in found if block.strip()]


def commands() -> list[str]:
    """Each call of raymc, or of a script here with what it gives on; without variables in front."""
    lines = "\n".join(blocks()).replace("\\\n", " ").splitlines()
    calls = (re.sub(r"^(?:[A-Z_]+=\S+ +)+", "", call.strip()) for line in lines for call in line.split(" && "))
    return sorted({call for call in calls if re.match(r"(raymc|sbatch) ", call)})


def test_there_are_commands():
    verbs = {shlex.split(one)[1] for one in commands() if one.startswith("raymc ")}
    assert {"submit", "jobs", "status", "logs", "stop", "resume", "show", "validate", "plan"} <= verbs


@pytest.mark.parametrize("command", commands())
def test_a_command_of_raymc_parses(command):
    words = shlex.split(command, comments=True)
    if words[0] == "sbatch":
        script = next(i for i, word in enumerate(words) if word.endswith(".sh"))
        assert all(re.fullmatch(r"--(nodes|gpus-per-node)=\d+", word) for word in words[1:script]), "Slurm's options"
        words = ["raymc", "submit", *words[script + 1 :]]
    options = parser().parse_args([word for word in words[1:] if word != "..."])
    given = getattr(options, "spec", [])
    for spec in [given] if isinstance(given, str) else given:
        if spec != "SPEC":
            load_spec(ROOT / spec)


def test_the_job_of_kubernetes_parses():
    entry = re.search(r"entrypoint: bash /opt/raymc/(\S+) (.*)", (CLUSTER / "kubernetes" / "rayjob.yaml").read_text())
    assert entry
    assert not re.search(r"[;&|<>$'\"`(]", entry[0]), "KubeRay puts it into a shell command as it is"
    assert (ROOT / entry[1]).is_file()
    assert "COPY cluster /opt/raymc/cluster\n" in (CLUSTER / "Containerfile").read_text()
    options = parser().parse_args(["run", *shlex.split(entry[2])])
    assert (options.spec, options.storage) == ("/sweep/sweep.yaml", "/shared/raymc")


@pytest.fixture
def stub(tmp_path: Path) -> Callable[[str, str], dict[str, str]]:
    """stub(name, script): the environment with such a program before others. It writes its name and arguments."""

    def put(name: str, script: str) -> dict[str, str]:
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/bash\necho "{name} $*" >>{tmp_path}/said\n{script}\n')
        path.chmod(0o755)
        return {**os.environ, "PATH": f"{path.parent}:{os.environ['PATH']}"}

    return put


@pytest.mark.parametrize(
    ("code", "valid", "ends"),
    [(0, 0, 0), (2, 2, 0), (2, 0, 2), (3, 0, 0), (1, 0, 1), (4, 0, 4), (130, 0, 130), (137, 0, 137)],
)
def test_a_rayjob_is_tried_again_only_where_another_cluster_can_help(stub, tmp_path, code, valid, ends):
    environment = stub(
        "python", f'[ "$3" = run ] && exit {code}; [ "$3 $4" = "validate /sweep/a b.yaml" ] && exit {valid}'
    )
    entry = ["bash", CLUSTER / "kubernetes" / "run.sh", "/sweep/a b.yaml", "--storage", "/s"]
    done = subprocess.run(entry, env=environment, capture_output=True, text=True)
    assert done.returncode == ends
    assert (tmp_path / "said").read_text().startswith("python -m raymc.cli run /sweep/a b.yaml --storage /s\n")
    assert done.stderr.startswith(f"raymc: exit code {code} (") if code != ends else done.stderr == ""


def test_a_rayjob_that_is_stopped_waits_for_its_run(stub, tmp_path):
    """Ray signals the entrypoint and its children; the run takes its time."""
    environment = stub("python", f"trap 'sleep 0.2; exit 130' TERM; touch {tmp_path}/ready; sleep 60 & wait $!")
    with subprocess.Popen(["bash", CLUSTER / "kubernetes" / "run.sh"], env=environment, start_new_session=True) as job:
        while not (tmp_path / "ready").exists():
            assert job.poll() is None
            time.sleep(0.01)
        os.killpg(job.pid, signal.SIGTERM)
        assert job.wait(10) == 130


@pytest.mark.parametrize("code", [0, 4])
def test_slurm_requeues_also_where_the_sweep_cannot_be_stopped(stub, tmp_path, code):
    (requeue,) = re.findall(r"^requeue\(\) {\n.*?^}\n", (CLUSTER / "slurm.sh").read_text(), re.MULTILINE | re.DOTALL)
    stub("scontrol", "")
    environment = stub("raymc", f"exit {code}")
    script = f"set -euo pipefail\nid=raymc-one\nSLURM_JOB_ID=7\n{requeue}requeue"
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0
    assert (tmp_path / "said").read_text().splitlines() == ["raymc stop raymc-one", "scontrol requeue 7"]
    assert done.stderr == ("raymc-one didn't stop cleanly: it goes on from its last checkpoints\n" if code else "")


@pytest.mark.parametrize("block", blocks(), ids=lambda block: block.split("\n")[0][:40])
def test_a_block_is_sound_bash_and_names_files_that_are_there(block):
    subprocess.run(["bash", "-n"], input=block, text=True, check=True)
    for path in re.findall(r"(?<![\w./])(?:cluster|sweeps)/[\w./-]+\.(?:sh|yaml)|cluster/Containerfile", block):
        assert (ROOT / path).is_file(), path
