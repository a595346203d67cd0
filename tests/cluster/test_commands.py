"""Commands that cluster/'s pages and headers show: raymc's own are parsed, the rest is sound bash; files are there."""

from __future__ import annotations

import re
import shlex
import subprocess
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
    """Each call of raymc, or of a script here with what it gives on."""
    lines = "\n".join(blocks()).replace("\\\n", " ").splitlines()
    return sorted({line.strip() for line in lines if re.match(r"(raymc|sbatch) ", line.strip())})


def test_there_are_commands():
    verbs = {shlex.split(one)[1] for one in commands() if one.startswith("raymc ")}
    assert {"submit", "jobs", "status", "logs", "stop", "resume", "show"} <= verbs


@pytest.mark.parametrize("command", commands())
def test_a_command_of_raymc_parses(command):
    words = shlex.split(command, comments=True)
    if words[0] == "sbatch":
        words = ["raymc", "submit", *words[next(i for i, word in enumerate(words) if word.endswith(".sh")) + 1 :]]
    options = parser().parse_args([word for word in words[1:] if word != "..."])
    spec = getattr(options, "spec", "SPEC")
    if spec != "SPEC":
        load_spec(ROOT / spec)


def test_the_job_of_kubernetes_parses():
    entry = re.search(r"entrypoint: python -m raymc\.cli (.*)", (CLUSTER / "kubernetes" / "rayjob.yaml").read_text())
    assert entry
    options = parser().parse_args(shlex.split(entry[1]))
    assert (options.spec, options.storage) == ("/sweep/sweep.yaml", "/shared/raymc")


@pytest.mark.parametrize("block", blocks(), ids=lambda block: block.split("\n")[0][:40])
def test_a_block_is_sound_bash_and_names_files_that_are_there(block):
    subprocess.run(["bash", "-n"], input=block, text=True, check=True)
    for path in re.findall(r"(?<![\w./])(?:cluster|sweeps)/[\w./-]+\.(?:sh|yaml)|cluster/Containerfile", block):
        assert (ROOT / path).is_file(), path
