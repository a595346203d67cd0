"""The verbs for sweeps on a cluster; all return an exit code."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from raymc.cli.printing import amount, duration
from raymc.specs.secrets import without_secrets

if TYPE_CHECKING:
    from raymc.runtime.jobs import Job, Jobs
    from raymc.sweep.submit import Submitted

DONE, FAILED, INTERRUPTED = 0, 1, 130


def add_verbs(verb: Any, overrides: Any) -> None:
    """Their options; `verb(name, function, text)` adds one, `overrides(sub)` its --set."""

    def on_cluster(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--address",
            metavar="URL",
            help="of the Ray dashboard (default: RAY_API_SERVER_ADDRESS, RAY_ADDRESS, http://127.0.0.1:8265)",
        )
        sub.add_argument("--json", action="store_true", help="the answer as JSON")

    def of_job(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("id", metavar="ID", help="of the job, the start of it, or the sweep's name")
        on_cluster(sub)

    sub = verb("submit", submit, "run a sweep on a Ray cluster through its Jobs API; the same one twice is one job")
    sub.add_argument("spec", metavar="SPEC")
    overrides(sub)
    sub.add_argument(
        "--storage",
        metavar="URI",
        help="that all nodes reach: an absolute path, s3://... or gs://... (default: the spec's)",
    )
    sub.add_argument("--tracking", metavar="URI", help="MLflow tracking URI (default: the spec's)")
    sub.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME",
        help="a variable for the job, with its value here; of secrets (TOKEN, KEY, PASSWORD, ...) the name alone: "
        "the cluster's nodes must have them",
    )
    sub.add_argument(
        "--with-code", action="store_true", help="send this raymc's sources, too (else the cluster's runs)"
    )
    sub.add_argument(
        "--no-files", action="store_true", help="don't look at the data and models: their paths are the cluster's"
    )
    sub.add_argument("-f", "--follow", action="store_true", help="the log until the end, and the job's exit code")
    on_cluster(sub)

    on_cluster(verb("jobs", jobs, "the sweeps on a cluster"))
    of_job(verb("status", status, "how far a sweep on a cluster is"))
    sub = verb("logs", logs, "what a sweep on a cluster has printed")
    of_job(sub)
    sub.add_argument(
        "-f", "--follow", action="store_true", help="until the job ends, over dropped connections; its exit code"
    )
    of_job(verb("stop", stop, "end a sweep on a cluster cleanly; what it has finished is kept"))
    sub = verb("resume", resume, "go on with a sweep on a cluster that was stopped, failed or died")
    of_job(sub)
    sub.add_argument("-f", "--follow", action="store_true", help="the log until the end, and the job's exit code")


def submit(options: argparse.Namespace) -> int:
    from raymc.specs.load import fault_at, load_with_source
    from raymc.sweep.submit import submit as submit_sweep

    spec, source = load_with_source(options.spec, options.set)
    done = submit_sweep(
        spec,
        address=options.address,
        storage=options.storage,
        tracking=options.tracking,
        env=options.env,
        with_code=options.with_code,
        check_files=not options.no_files,
        written=source.data.get("storage", ""),
        locate=lambda where, message: fault_at(source, where, message),
    )
    return _told(done, options)


def resume(options: argparse.Namespace) -> int:
    from raymc.sweep.submit import resume as resume_job

    there, job = _found(options)
    return _told(resume_job(job, there), options)


def _told(done: Submitted, options: argparse.Namespace) -> int:
    from raymc.runtime.jobs import Jobs

    job, sent = done.job, done.submission
    if options.json:
        print(json.dumps(done.as_dict()), flush=True)
    else:
        said = {
            "submitted": "submitted",
            "resumed": f"attempt {job.attempt}: goes on from what the storage has",
            "attached": f"{job.state.lower()} already; nothing was submitted",
            "finished": "finished already; nothing was submitted (raymc resume runs it again)",
        }[done.action]
        print(f"job      {job.id}: {said}")
        if done.action in ("submitted", "resumed"):
            what = "its spec and raymc's sources" if sent.with_code else "its spec; the cluster's raymc runs it"
            print(f"sent     {amount(sum(map(len, sent.files.values())))} in {len(sent.files)} files: {what}")
            if sent.places:
                print(f"paths    that the cluster's nodes must see: {', '.join(sent.places)}")
            for names, text in ((sorted(sent.environment), "with their values here"), (sent.needs, "the nodes' own")):
                if names:
                    print(f"env      {', '.join(names)}: {text}")
        print(f"storage  {job.metadata.get('storage')}")
        if done.action == "finished":
            print(f"results  raymc show {job.name} --storage {job.metadata.get('storage')}")
        elif not options.follow:
            print(f"watch    raymc logs {job.id} -f{_address(options)}", flush=True)
    return _followed(job, Jobs(options.address), options) if options.follow else DONE


def jobs(options: argparse.Namespace) -> int:
    from raymc.runtime.jobs import Jobs

    there = Jobs(options.address)
    found = there.all()
    if options.json:
        print(json.dumps([job.as_dict() for job in found]))
        return DONE
    if not found:
        print(f"no sweeps on {there.address}")
        return DONE
    width = max(len(job.id) for job in found)
    for job in found:
        print(f"{job.id:<{width}}  {job.state.lower():<9}  {_when(job)}")
    return DONE


def status(options: argparse.Namespace) -> int:
    from raymc.sweep.submit import seen_of

    there, job = _found(options)
    seen = seen_of(job, there)
    if options.json:
        print(json.dumps({**job.as_dict(), **seen.as_dict(), "message": job.message}))
        return DONE
    print(f"job      {job.id}" + (f" (attempt {job.attempt})" if job.attempt > 1 else ""))
    code = f", exit code {job.exit_code}" if job.exit_code else ""
    print(f"state    {job.state.lower()}{code}; {_when(job)}")
    counts = (f"{name} {one['done']} of {one['total']}" for name, one in seen.stages.items())
    print(f"done     {'; '.join(counts) or 'nothing yet'}")
    if seen.last and not job.is_over:
        print(f"now      {seen.last}")
    for failure in seen.failures:
        print(f"failed   {failure}")
    if job.state == "FAILED" and not seen.failures:
        print(f"reason   {_reason(there.log(job.id)) or job.message}")
    print(f"storage  {job.metadata.get('storage')}")
    if seen.tables:
        print(f"tables   {seen.tables}")
    if seen.mlflow:
        print(f"MLflow   {seen.mlflow}")
    if job.state in ("STOPPED", "FAILED"):
        print(f"go on    raymc resume {job.base}{_address(options)}")
    return DONE


def logs(options: argparse.Namespace) -> int:
    there, job = _found(options)
    if options.follow:
        return _followed(job, there, options)
    text = there.log(job.id)
    if options.json:
        print(json.dumps({**job.as_dict(), "log": text}))
    else:
        sys.stdout.write(text)
    return DONE


def stop(options: argparse.Namespace) -> int:
    from raymc.sweep.submit import stop as stop_job

    there, job = _found(options)
    was_over = job.is_over
    if not was_over and not options.json:
        print(f"{job.id}: stopping", flush=True)
    job = stop_job(job, there, lambda text: print(text, file=sys.stderr))
    if options.json:
        print(json.dumps({**job.as_dict(), "was_over": was_over}))
    elif was_over:
        print(f"{job.id}: {job.state.lower()} already")
    else:
        print(f"{job.id}: {job.state.lower()}; what is finished is kept: raymc resume {job.base}{_address(options)}")
    return DONE


def _found(options: argparse.Namespace) -> tuple[Jobs, Job]:
    from raymc.runtime.jobs import Jobs

    there = Jobs(options.address)
    return there, there.find(options.id)


def _followed(job: Job, there: Jobs, options: argparse.Namespace) -> int:
    """The job's log until its end; its exit code. With --json a line of the log is a string, the job comes last."""

    def write(text: str) -> None:
        if options.json:
            text = "".join(json.dumps(line) + "\n" for line in text.splitlines())
        sys.stdout.write(text)
        sys.stdout.flush()

    try:
        job = there.follow(job.id, write, lambda text: print(text, file=sys.stderr))
    except KeyboardInterrupt:
        print(f"\nno longer following; {job.id} goes on (raymc stop {job.id} ends it)", file=sys.stderr)
        return INTERRUPTED
    if options.json:
        print(json.dumps(job.as_dict()))
    if job.state == "SUCCEEDED":
        return DONE
    print(f"{job.id}: {job.state.lower()}", file=sys.stderr)
    return INTERRUPTED if job.state == "STOPPED" else job.exit_code or FAILED


def _reason(log: str) -> str:
    """The last line that a failed job printed."""
    lines = [line for line in log.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _when(job: Job) -> str:
    if job.started is None:
        return "not started"
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(job.started))
    return f"since {began}, {duration((job.ended or time.time()) - job.started)}"


def _address(options: argparse.Namespace) -> str:
    return f" --address {without_secrets(options.address)}" if options.address else ""
