"""What is sent to a cluster: id, files, environment, refusals, and how far a run is by its log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import raymc
from raymc.cli import main
from raymc.report.progress import LineProgress
from raymc.runtime.dashboard import reaching, url_of
from raymc.specs.errors import RaymcError, SpecError
from raymc.specs.load import load_spec
from raymc.sweep.job_log import read_log
from raymc.sweep.submission import of_metadata, prepare, submission_id

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "sweeps" / "quickstart.yaml"


@pytest.fixture
def spec():
    return load_spec(QUICKSTART)


def test_an_id_is_of_the_name_what_is_computed_and_where(spec):
    def of(*changes: str, storage: str = "/shared/raymc") -> str:
        return prepare(load_spec(QUICKSTART, changes), storage=storage).id

    first = of()
    assert first == of()
    assert first.startswith("raymc-quickstart-")
    for same in (
        "description=other",
        "resources.evaluator.actors=2",
        "failure.trial_retries=0",
        "tracking.log_every=3",
    ):
        assert of(same) == first
    others = [of("train.steps=7"), of("name=other"), of("connectivity.points=5"), of(storage="s3://bucket/raymc")]
    assert len({first, *others}) == 5


def test_ids_are_golden(spec):
    """A changed id would run a sweep twice that is running: bump it knowingly."""
    assert submission_id(spec.model_copy(update={"storage": "/shared/raymc"})) == "raymc-quickstart-74d7e82023"


def test_only_the_spec_and_its_start_are_sent(spec):
    sent = prepare(spec, storage="/shared/raymc", tracking="http://mlflow:5000")
    assert sorted(sent.files) == ["job.json", "spec.json", "start.py"]
    assert sum(map(len, sent.files.values())) < 10_000
    assert sent.places == []


def test_what_is_sent_reads_as_the_spec_with_all_that_was_overridden(tmp_path, make_dataset):
    make_dataset("data")
    path = tmp_path / "one.yaml"
    path.write_text(
        "name: one\nmodel: {backbone: ./model}\ntask: {dataset: {path: data}}\n"
        "axes: {'model.backbone': [./a, org/b, ../c]}\nminima: [{name: mine, uri: ./d}]\n"
    )
    sent = prepare(load_spec(path, ["train.steps=7"]), storage="s3://bucket/x", tracking="http://mlflow:5000")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "spec.json").write_bytes(sent.files["spec.json"])
    spec = load_spec(tmp_path / "elsewhere" / "spec.json")
    assert spec == sent.spec
    assert (spec.train.steps, spec.storage, spec.tracking.uri) == (7, "s3://bucket/x", "http://mlflow:5000")
    home = tmp_path.resolve()
    assert sent.places == sorted(map(str, (home / "model", home / "data", home / "a", home.parent / "c", home / "d")))


def test_code_is_raymcs_own_sources_and_nothing_else(spec):
    sent = prepare(spec, storage="/shared/raymc", with_code=True)
    code = {name for name in sent.files if name.startswith("raymc/")}
    assert {"raymc/__init__.py", "raymc/cli/__main__.py", "raymc/sweep/run.py", "raymc/py.typed"} <= code
    assert not any("__pycache__" in name or ".git" in name for name in code)


def test_a_job_can_be_made_again_of_its_metadata(spec, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    sent = prepare(spec, storage="/shared/raymc", env=["HF_HUB_OFFLINE", "HF_TOKEN"], with_code=True)
    metadata = json.loads(json.dumps(sent.metadata))
    assert all(isinstance(value, str) for value in metadata.values())
    assert of_metadata(metadata, {"HF_HUB_OFFLINE": "1", "RAY_JOB_STOP_WAIT_TIME_S": "60"}) == sent
    with pytest.raises(RaymcError, match="not one that raymc"):
        of_metadata({**metadata, "spec": '{"name": 1}'}, {})


@pytest.mark.parametrize("storage", [None, "./store", "store", "", "~/store"])
def test_a_storage_that_nodes_cannot_share_is_refused(storage, capsys):
    given = [] if storage is None else ["--storage", storage]
    assert main(["submit", str(QUICKSTART), *given]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"{QUICKSTART}:")
    assert "storage: a cluster needs a place that all its nodes reach" in lines[0]


@pytest.mark.parametrize(
    ("storage", "words"),
    [
        ("http://host/x", "s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, not http://"),
        ("hdfs://host/x", "not hdfs://"),
        ("s3://", "no bucket is named"),
        ("gs:///x", "no bucket is named"),
        ("file://store", "file:// and an absolute path"),
        ("s3://key@bucket/x", "names and passwords belong in the environment"),
    ],
)
def test_a_storage_that_is_none_is_refused_here(storage, words, capsys):
    assert main(["submit", str(QUICKSTART), "--storage", storage]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{QUICKSTART}:")
    assert words in line


def test_a_relative_storage_in_the_spec_is_refused_where_it_stands(tmp_path, capsys):
    path = tmp_path / "one.yaml"
    path.write_text(QUICKSTART.read_text() + "storage: ./store\n")
    line = len(path.read_text().splitlines())
    assert main(["submit", str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"{path}:{line}:1: storage: ")


def test_faults_of_the_spec_come_before_the_cluster(capsys):
    assert main(["submit", str(QUICKSTART), "--set", "train.stpes=1", "--storage", "/s"]) == 2
    assert "did you mean" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "DB_PASSWD", "my_key"]
)
def test_of_a_secret_the_name_alone_is_sent(spec, monkeypatch, name):
    monkeypatch.setenv(name, "value-that-must-stay-here")
    sent = prepare(spec, storage="/s", env=[name])
    assert sent.needs == (name,)
    everything = [*sent.files.values(), json.dumps(sent.metadata).encode(), json.dumps(sent.environment).encode()]
    assert not any(b"value-that-must-stay-here" in one for one in everything)
    assert name.encode() in sent.files["job.json"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("HTTPS_PROXY", "http://me:hunter2@proxy:3128", "holds a password"),
        ("HTTPS_PROXY", "me:hunter2@proxy:3128", "holds a password"),
        ("HTTPS_PROXY", "me:hunter2/x@proxy:3128", "holds a password"),
        ("AZ_CONN", "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=hunter2;", "holds a password"),
        ("PGDSN", "host=h password = hunter2", "holds a password"),
        ("BLOB", "https://a.blob/x?sv=2024&sig=hunter2", "holds a password"),
        ("GOOGLE_JSON", '{"type": "service_account", "private_key_id": "hunter2"}', "holds a password"),
        ("PEM", "-----BEGIN RSA PRIVATE KEY-----\nhunter2", "holds a password"),
        ("HEADERS", "Authorization: Bearer hunter2hunter2", "holds a password"),
        *(
            ("SOME", value, "holds a password")
            for value in (
                *("Endpoint=sb://h/;SharedAccessKey=hunter2", "aws_secret_access_key=hunter2", "PGPASSWORD=hunter2"),
                *("--client-secret=hunter2", "-DkeyStorePassword=hunter2", "apikey=hunter2", "token='hunter2'"),
                *("user=me password: hunter2", "{'user': 'me', 'apiKey': 'hunter2'}", r"{\"password\": \"hunter2\"}"),
                *("X-Api-Key: hunter2", "authorization=Basic%20hunter2hunter2", "Bearer hunter2hunter2"),
                *("a=1 //me:hunter2@host/x", "url=me:hunter2@host", "hf_" + "hunter2" * 5, "sk-proj-" + "hunter2" * 5),
                *(
                    "ghp_" + "hunter2" * 5,
                    "github_pat_" + "hunter2" * 5,
                    "AKIA" + "HUNTER2X" * 2,
                    "x,glpat-" + "hunter2" * 3,
                ),
            )
        ),
        ("NOT_SET_ANYWHERE", None, "not set here"),
        ("NAME=hunter2", None, "the name of a variable"),
    ],
)
def test_variables_that_are_refused(spec, monkeypatch, name, value, words):
    if value is not None:
        monkeypatch.setenv(name, value)
    with pytest.raises(RaymcError, match=words) as caught:
        prepare(spec, storage="/s", env=[name])
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        *("", "1", "http://proxy:3128", "proxy:3128", "/opt/a:/opt/node@18/bin:/usr/bin", "git@host:group/project"),
        *("registry:5000/raymc:0.1@sha256:abcd", "2026-11-22 03:34:17", "a=1,b=2", "s3://bucket/x@y", "me@host"),
        *("http://host:8080/x@y", "localhost,127.0.0.1,::1", "expandable_segments:True,max_split_size_mb:64"),
        *("tokenizer=gpt2", "max_tokens=512", "sigma=0.3", "design=5", "signal=TERM", "--passes=3", "monkey=1"),
        *(
            '{"tokenizer": "gpt2"}',
            '{"eos_token_id": 50256}',
            "a basic training run",
            "-Djavax.net.ssl.keyStore=/etc/ks",
        ),
        *("python/3.11:cuda@12", "turkey=1,hockey=2", "/etc/secret:/usr/bin", "compass=north", "hf_transfer=1"),
        *("risk-adjusted-returns-of-2024-and-after", "bypass=1", "sk-learn-contrib-packages", "torch.compile: keyed"),
    ],
)
def test_other_values_are_sent(spec, monkeypatch, value):
    monkeypatch.setenv("SOMETHING", value)
    assert prepare(spec, storage="/s", env=["SOMETHING"]).environment == {"SOMETHING": value}


def test_passwords_in_addresses_are_refused(spec):
    for storage, tracking in (
        ("/s", "postgresql://me:hunter2@db/mlflow"),
        ("/s", "postgresql://db/mlflow?user=me&password=hunter2"),
        ("s3://key:hunter2@bucket/x", None),
    ):
        with pytest.raises(SpecError, match="a password in an address") as caught:
            prepare(spec, storage=storage, tracking=tracking)
        assert "hunter2" not in str(caught.value)


def start(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-S", "start.py"], cwd=folder, capture_output=True, text=True, env={"PATH": "", **environment}
    )


def test_a_job_starts_the_run_or_says_what_is_missing(spec, tmp_path):
    """Python without its site-packages stands for nodes without raymc; a raymc of another version for older nodes."""
    sent = prepare(spec, storage="/s", env=["HF_TOKEN"])
    for name, content in sent.files.items():
        (tmp_path / name).write_bytes(content)
    lacking = start(tmp_path)
    assert lacking.returncode == 2
    assert lacking.stderr.startswith("HF_TOKEN: not in the environment of the cluster's nodes")
    without = start(tmp_path, HF_TOKEN="x")
    assert without.returncode == 2
    assert "raymc isn't installed for" in without.stderr
    (tmp_path / "raymc" / "cli").mkdir(parents=True)
    (tmp_path / "raymc" / "__init__.py").write_text('__version__ = "0.0.9"\n')
    (tmp_path / "raymc" / "cli" / "__main__.py").write_text("import sys; print(sys.argv[1:]); sys.exit(3)\n")
    other = start(tmp_path, HF_TOKEN="x")
    assert other.returncode == 3
    said = f"submitted from raymc {raymc.__version__}, run by the cluster's 0.0.9"
    assert other.stdout.splitlines() == [said, f"['run', '{tmp_path / 'spec.json'}']"]


def test_progress_is_read_from_what_a_run_prints(capsys):
    progress = LineProgress(every=0.0)
    progress.stage("minima", 4, 1)
    progress.step("seed=1 order=2", 10, 20, 0.5)
    progress.advance()
    progress.advance(ok=False)
    progress.say("a minimum: 3 of them, said of something else")
    printed = capsys.readouterr().err
    seen = read_log(printed)
    assert seen.stages == {"minima": {"done": 2, "total": 4}}
    assert seen.last.startswith("minima: 2 of 4")
    progress.stage("pairs", 6, 6)
    ended = (
        "failed: minimum seed=1 order=3: the loss is not finite\n"
        "failed: minimum seed=1 order=3: the loss is not finite\n"  # it is printed on stderr, and below the matrix
        "minima: 4 (2 computed, 1 reused, 1 failed); pairs: 6 (0 computed, 6 reused, 0 failed); 3.1 s\n"
        "tables:  /s/sweeps/one\nMLflow:  http://mlflow/#/x\n"
    )
    seen = read_log(printed + capsys.readouterr().err + ended)
    assert seen.stages == {"minima": {"done": 3, "total": 4}, "pairs": {"done": 6, "total": 6}}
    assert seen.failures == ["minimum seed=1 order=3: the loss is not finite"]
    assert (seen.tables, seen.mlflow) == ("/s/sweeps/one", "http://mlflow/#/x")


def test_where_the_cluster_is(monkeypatch):
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert url_of(None) == "http://127.0.0.1:8265"
    monkeypatch.setenv("RAY_ADDRESS", "https://head:8265/")
    assert url_of(None) == "https://head:8265"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://other:1")
    assert url_of(None) == "http://other:1"
    assert url_of("head:8265") == "http://head:8265"
    for wrong in ("ray://head:10001", "auto", "http://"):
        with pytest.raises(RaymcError, match="the URL of a Ray dashboard"):
            url_of(wrong)


def test_a_password_in_an_address_is_not_shown(capsys):
    for address in ("http://me:hunter2@127.0.0.1:9", "https://me:hunter2@127.0.0.1:9/x?token=hunter2"):
        assert main(["jobs", "--address", address]) == 4
        (line,) = capsys.readouterr().err.splitlines()
        assert "127.0.0.1:9" in line
        assert "hunter2" not in line
    assert main(["jobs", "--address", "ray://me:hunter2@127.0.0.1:9"]) == 2
    assert "hunter2" not in capsys.readouterr().err
    with pytest.raises(RaymcError, match="no Ray dashboard") as caught, reaching("http://me:hunter2@head:1"):
        raise ValueError("what is at http://me:hunter2@head:1/api?token=hunter2 is no JSON")
    assert "hunter2" not in str(caught.value)


def test_the_help_names_the_exit_codes():
    done = subprocess.run(
        [sys.executable, "-m", "raymc.cli", "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert "4 no cluster or no right token" in done.stdout
