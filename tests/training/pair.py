"""Two workers in processes of their own, which share the seconds of imports: python pair.py SCRIPT ARGUMENTS...

Each runs SCRIPT with its rank before the ARGUMENTS. Exits with 1 where either fails.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import raymc.training.finetune
import raymc.training.pretrain  # noqa: F401  for the workers


def work(rank: int, script: str, *arguments: str) -> None:
    sys.argv = [script, str(rank), *arguments]
    runpy.run_path(script, run_name="__main__")


def main(*arguments: str) -> int:
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=work, args=(rank, *arguments)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return int(any(worker.exitcode for worker in workers))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
