"""What is sent to a cluster for a sweep: its resolved spec, a start, and no more; under which id and environment."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from raymc.specs.errors import RaymcError, SpecError
from raymc.specs.keys import key_of
from raymc.specs.secrets import without_secrets
from raymc.specs.sweep import SweepSpec
from raymc.sweep import job_start
from raymc.sweep.check import Locate, unlocated

STOP_SECONDS = 60  # that a stopped run has to end cleanly before it is killed; Ray's own 3 are too few for a checkpoint

_HOW_ONLY = ("description", "resources", "failure", "tracking")  # what a sweep computes doesn't depend on these
_PLACES = ("path", "backbone", "uri", "base", "tokenizer", "start")  # fields that may name a local file or folder
_CODE = (".py", ".html", ".css", ".js")
_SECRET = re.compile(r"TOKEN|KEY|SECRET|PASS|PWD|CREDENTIAL|AUTH|COOKIE|PRIVATE|SIGNATURE", re.IGNORECASE)
_WORD = (  # whole, in any case, or the end of a name: account_key, AccountKey, PGPASSWORD
    r"(?:(?:^|[^A-Za-z]|(?<=[a-z])(?=[A-Z]))(?i:pass|pwd|token|key|sig(?:nature)?)"
    r"|(?i:pass(?:word|wd|phrase)|secret|credentials?|(?:api|access|account|auth)(?:key|token)))"
)
_IN_A_VALUE = (  # what a value with a secret in it looks like, of a variable whose name doesn't tell
    re.compile(_WORD + r"['\"]?\s*="),  # AccountKey=..., &sig=..., password = ...
    re.compile(rf"(?:{_WORD}|(?i:private_?key_?id))\\?['\"]\s*:"),  # JSON
    re.compile(r"(?i:pass(?:word|wd|phrase)|api[-_]?key|auth-token)\s*:\s*[^\s/:]"),  # password: ...
    re.compile(r"(?:^|[\s,;\"'=]|//)[^/\s:@,;]+:[^/\s@]+@(?!sha\d+:)"),  # user:password@host, not image:tag@digest
    re.compile(r"^[^/\s:@]+:[^\s@]+@[^\s@/]+:\d+$"),  # with a slash in the password
    re.compile(r"PRIVATE KEY-----"),
    re.compile(r"(?i:(?:^|authorization['\"]?\s*[:=])[\s'\"]*(?:bearer|basic)(?: +|%20)\S{8})"),
    re.compile(  # tokens known by their shape, of Hugging Face, OpenAI and others, GitHub, GitLab, AWS, Slack, Google
        r"(?<![A-Za-z0-9])(?:hf_[A-Za-z0-9]{20}|sk-(?=[\w-]*\d)[\w-]{20}|gh[opsur]_[A-Za-z0-9]{20}|github_pat_\w{20}"
        r"|glpat-[\w-]{20}|A[KS]IA[A-Z0-9]{16}|xox[abeprs]-[\w-]{10}|AIza[\w-]{35})"
    ),
)


@dataclass(frozen=True)
class Submission:
    """A sweep as it is sent. `id`: its first attempt's. `files`: by their path in the job's folder.

    `environment`: variables sent by value, for all to see who may see the job. `needs`: names of secrets, which the
    cluster's nodes must have of their own. `places`: local paths that its nodes must see.
    """

    id: str
    spec: SweepSpec
    version: str
    needs: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    with_code: bool = False

    @property
    def entrypoint(self) -> str:
        return "exec python start.py"

    @property
    def files(self) -> dict[str, bytes]:
        sent = {"version": self.version, "needs": self.needs}
        files = {
            "spec.json": self.spec.model_dump_json().encode(),
            "job.json": json.dumps(sent).encode(),
            "start.py": Path(job_start.__file__).read_bytes(),
        }
        return files | (dict(_code()) if self.with_code else {})

    @property
    def metadata(self) -> dict[str, str]:
        """What is kept beside the job, and enough to submit it again; never a secret."""
        return {
            "raymc": self.id,
            "version": self.version,
            "sweep": self.spec.name,
            "storage": str(self.spec.storage),
            "needs": ",".join(self.needs),
            "code": "sent" if self.with_code else "",
            "spec": self.spec.model_dump_json(),
        }

    @property
    def places(self) -> list[str]:
        return sorted(set(_local_places(self.spec.model_dump(mode="json"))))

    def attempt(self, number: int) -> str:
        """The id of an attempt, from 1."""
        return self.id if number == 1 else f"{self.id}-{number}"


def prepare(
    spec: SweepSpec,
    *,
    storage: str | None = None,
    tracking: str | None = None,
    env: Sequence[str] = (),
    with_code: bool = False,
    written: object = None,
    locate: Locate = unlocated,
) -> Submission:
    """What to send for a sweep. `written`: its storage as the spec's file has it. `env`: names of variables.

    Raises SpecError where the storage is none that all nodes can reach, and RaymcError for a variable that isn't set
    or an address with a password in it.
    """
    import raymc

    where = storage if storage is not None else (spec.storage if written is None else written)
    if not isinstance(where, str) or not (where.startswith("/") or "://" in where):
        said = f", not {where!r}" if where else ""
        message = (
            "a cluster needs a place that all its nodes reach: an absolute path in a shared folder, "
            f"s3://BUCKET/PREFIX or gs://BUCKET/PREFIX{said} (here, or as --storage)"
        )
        raise SpecError([locate(("storage",), message)])
    if where.startswith("file://") and not where.startswith("file:///"):
        raise SpecError([locate(("storage",), f"file:// and an absolute path in a shared folder, not {where!r}")])
    uri = tracking or spec.tracking.uri
    for name, address in (("storage", where), ("tracking.uri", uri)):
        if _has_password(address):
            hint = "; MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" if name == "tracking.uri" else ""
            message = f"a password in an address is seen by all who see the job; give it to the nodes instead{hint}"
            raise SpecError([locate(tuple(name.split(".")), message)])
    try:
        SweepSpec.usable_storage(where)
    except ValueError as error:
        raise SpecError([locate(("storage",), str(error))]) from error
    if uri != spec.tracking.uri:
        spec = spec.model_copy(update={"tracking": spec.tracking.model_copy(update={"uri": uri})})
    spec = spec.model_copy(update={"storage": where})
    needs, values = _environment(env)
    return Submission(submission_id(spec), spec, raymc.__version__, needs, values, with_code)


def submission_id(spec: SweepSpec) -> str:
    """`raymc-NAME-HASH`: the same for all that computes the same into the same storage."""
    content = spec.model_dump(mode="json", exclude=set(_HOW_ONLY))
    return f"raymc-{spec.name}-{key_of(content)[:10]}"


def of_metadata(metadata: Mapping[str, str], environment: Mapping[str, str]) -> Submission:
    """What a job was made of. Raises RaymcError where another raymc's spec can't be read."""
    import raymc

    try:
        spec = SweepSpec.model_validate_json(metadata["spec"])
    except (KeyError, ValueError) as error:
        raise RaymcError(f"{metadata['raymc']}: its spec is not one that raymc {raymc.__version__} reads") from error
    needs = tuple(name for name in metadata.get("needs", "").split(",") if name)
    values = {name: value for name, value in environment.items() if name != "RAY_JOB_STOP_WAIT_TIME_S"}
    return Submission(metadata["raymc"], spec, raymc.__version__, needs, values, bool(metadata.get("code")))


def _environment(names: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """(names of secrets, which stay here; other variables with their values). Raises RaymcError."""
    needs, values = [], {}
    for name in dict.fromkeys(names):
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise RaymcError(
                f"--env takes the name of a variable, as in --env HF_HUB_OFFLINE, not {name.partition('=')[0]!r}"
            )
        if _SECRET.search(name):
            needs.append(name)
        elif name not in os.environ:
            raise RaymcError(f"--env {name}: not set here")
        elif _holds_secret(os.environ[name]):
            raise RaymcError(
                f"--env {name}: it holds a password, or what looks like one, which all who see the job would see; "
                "set it on the nodes"
            )
        else:
            values[name] = os.environ[name]
    return tuple(needs), values


def _has_password(address: object) -> bool:
    if not isinstance(address, str) or "://" not in address:
        return False
    try:
        return bool(urlsplit(address).password) or "…" in without_secrets(address)
    except ValueError:
        return True


def _holds_secret(value: str) -> bool:
    return _has_password(value) or any(pattern.search(value) for pattern in _IN_A_VALUE)


def _code() -> Iterator[tuple[str, bytes]]:
    """raymc's own sources, and what its report's page is made of."""
    import raymc

    home = Path(str(raymc.__file__)).parent
    for path in sorted(home.rglob("*")):
        if path.suffix in _CODE or path.name == "py.typed":
            yield f"raymc/{path.relative_to(home).as_posix()}", path.read_bytes()


def _local_places(node: Any, name: str = "") -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _local_places(value, str(key).rsplit(".", 1)[-1])
    elif isinstance(node, list):
        for value in node:
            yield from _local_places(value, name)
    elif isinstance(node, str) and name in _PLACES and node.startswith("/"):
        yield node
