"""Manifests, the compose file and scripts of cluster/: published schemas, Ray's own reader, bash and shellcheck."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
from ruamel.yaml import YAML

import raymc

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
SCHEMAS = Path(__file__).parent / "schemas"
MANIFESTS = sorted((CLUSTER / "kubernetes").glob("*.yaml"))
SCRIPTS = sorted(CLUSTER.rglob("*.sh"))
KUBERNETES = "1.32"  # what is wide-spread; KubeRay 1.5 asks for 1.23 or newer


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(json.dumps(one)) for one in YAML(typ="safe").load_all(path) if one]


def clusters() -> list[tuple[str, dict[str, Any]]]:
    """(file, spec of the cluster in it)."""
    found = []
    for path in MANIFESTS:
        for one in read(path):
            if one["apiVersion"] == "ray.io/v1":
                spec = one["spec"]
                found.append((path.name, spec.get("rayClusterSpec", spec)))
    return found


def templates() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, spec in clusters():
        yield f"{name} head", spec["headGroupSpec"]["template"]
        for group in spec["workerGroupSpecs"]:
            yield f"{name} {group['groupName']}", group["template"]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_manifest_validates(path):
    for one in read(path):
        if one["apiVersion"] == "ray.io/v1":
            jsonschema.validate(one, json.loads((SCHEMAS / "kuberay.json").read_text()))
        else:
            kubernetes_validate.validate(one, KUBERNETES, strict=True)


def test_there_are_manifests_of_each_kind():
    assert {one["kind"] for path in MANIFESTS for one in read(path)} == {
        *("RayCluster", "RayJob", "PersistentVolumeClaim", "NetworkPolicy")
    }


@pytest.mark.parametrize(
    ("name", "template"), list(templates()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_pod_template_is_a_pod_as_kubernetes_has_it(name, template):
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "one", **template["metadata"]},
        "spec": template["spec"],
    }
    kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):  # the check sees a misspelt field
        kubernetes_validate.validate({**pod, "spec": {**pod["spec"], "tolerationz": []}}, KUBERNETES, strict=True)


@pytest.mark.parametrize(("name", "spec"), clusters(), ids=lambda value: value if isinstance(value, str) else "")
def test_rays_own_autoscaler_reads_the_cluster(name, spec):
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr as derive

    found = derive({"metadata": {"name": "raymc", "namespace": "default"}, "spec": spec})["available_node_types"]
    head = found.pop("headgroup")
    assert head["resources"]["CPU"] == 0  # drivers alone
    (workers,) = found.values()
    assert workers["resources"]["CPU"] == 8
    gpus, replicas = (1, (0, 8)) if name == "autoscaling.yaml" else (0, (2, 2))
    assert workers["resources"].get("GPU", 0) == gpus
    assert (workers["min_workers"], workers["max_workers"]) == replicas


@pytest.mark.parametrize(("name", "spec"), clusters(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_cluster_asks_for_a_token_and_is_open_to_none(name, spec):
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert "dashboard-host" not in spec["headGroupSpec"]["rayStartParams"]


def test_containers_have_no_more_rights_than_they_need_and_the_folders_that_they_name():
    locked = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    for name, template in templates():
        (container,) = template["spec"]["containers"]
        assert container["securityContext"] == locked, name
        mounts = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
        volumes = {one.pop("name"): one for one in template["spec"]["volumes"]}
        named = {one["name"]: one["value"] for one in container["env"]}
        assert volumes[mounts[str(Path(named["HF_HOME"]).parent)]]["persistentVolumeClaim"], name
        assert "sizeLimit" in volumes[mounts[named["RAYMC_CACHE"]]]["emptyDir"], name
    for name, spec in clusters():
        assert spec.get("autoscalerOptions", {}).get("securityContext", locked) == locked, name


def test_the_pod_that_submits_a_rayjob_may_reach_its_cluster():
    """Kubernetes labels a Job's pods with the Job's name, which KubeRay takes from the RayJob."""
    (job,) = read(CLUSTER / "kubernetes" / "rayjob.yaml")
    (policy,) = read(CLUSTER / "kubernetes" / "network.yaml")
    (rule,) = policy["spec"]["ingress"]
    let_in = [one["podSelector"]["matchLabels"] for one in rule["from"]]
    assert {"batch.kubernetes.io/job-name": job["metadata"]["name"]} in let_in
    assert not any("app.kubernetes.io/created-by" in labels for labels in let_in)  # that is on all Ray clusters' pods


def test_spot_workers_are_chosen_and_tolerated():
    (spec,) = [spec for name, spec in clusters() if name == "autoscaling.yaml"]
    pod = spec["workerGroupSpecs"][0]["template"]["spec"]
    (label,) = pod["nodeSelector"]
    assert label in {one["key"] for one in pod["tolerations"]}
    assert "nodeSelector" not in spec["headGroupSpec"]["template"]["spec"]


def test_no_secret_stands_in_a_file():
    """Values of variables with secret-looking names come from Secrets and files alone."""
    secret = re.compile(r"TOKEN|SECRET|PASSWORD|KEY", re.IGNORECASE)
    for _, template in templates():
        for container in template["spec"]["containers"]:
            assert all("valueFrom" in one for one in container["env"] if secret.search(one["name"]))
            assert container["envFrom"] == [{"secretRef": {"name": "raymc-credentials", "optional": True}}]
    for service in compose()["services"].values():
        for name, value in service["environment"].items():
            assert not secret.search(name) or name.endswith("_FILE"), name
            assert "://" not in str(value)


def compose() -> dict[str, Any]:
    return read(CLUSTER / "mlflow" / "compose.yaml")[0]


def test_the_compose_file_validates_and_listens_on_loopback():
    schema = json.loads((SCHEMAS / "compose-spec.json").read_text())
    jsonschema.Draft201909Validator(schema).validate(compose())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft201909Validator(schema).validate({**compose(), "servicez": {}})
    services = compose()["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports == ["${MLFLOW_LISTEN:-127.0.0.1}:5000:5000"]
    used = {name for service in services.values() for name in service["secrets"]}
    assert used == set(compose()["secrets"])


@pytest.mark.parametrize("endpoint", ["", "http://10.0.0.9:9000"])
def test_mlflows_script_gives_it_secrets_by_file_and_no_empty_endpoint(endpoint, tmp_path):
    """With a program in MLflow's place that prints what it was given. boto3 refuses an empty address."""
    secrets = {"postgres_password": "a/b c%", "mlflow_admin_password": "x%y", "mlflow_session_key": "z"}
    for name, value in secrets.items():
        (tmp_path / name).write_text(value)
    (tmp_path / "mlflow").write_text('#!/bin/sh\necho "$*"\nenv\n')
    (tmp_path / "mlflow").chmod(0o700)
    given = {"RAYMC_SECRETS": tmp_path, "HOME": tmp_path, "MLFLOW_S3_ENDPOINT_URL": endpoint}
    given["PATH"] = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    script = CLUSTER / "mlflow" / "server.sh"
    told = subprocess.run([script], env=given, capture_output=True, text=True, check=True).stdout.splitlines()
    assert told[0].startswith("server --app-name basic-auth ")
    assert not any(value in told[0] for value in secrets.values() if value != "z")
    assert [line for line in told if line.startswith("MLFLOW_S3_ENDPOINT_URL=")] == (
        [f"MLFLOW_S3_ENDPOINT_URL={endpoint}"] if endpoint else []
    )
    uri = "postgresql+psycopg2://mlflow:a%2Fb%20c%25@postgres:5432/mlflow"
    assert f"MLFLOW_BACKEND_STORE_URI={uri}" in told
    users = configparser.ConfigParser()
    users.read(tmp_path / "auth.ini")
    assert (users["mlflow"]["admin_password"], users["mlflow"]["database_uri"]) == ("x%y", uri)


def test_versions_agree():
    found = pins()
    for name, spec in clusters():
        assert spec["rayVersion"] == found["ray"], name
    images = {container["image"] for _, template in templates() for container in template["spec"]["containers"]}
    assert images == {f"raymc:{raymc.__version__}", f"raymc:{raymc.__version__}-gpu"}
    assert compose()["services"]["mlflow"]["image"] == f"raymc-mlflow:{found['mlflow']}"
    texts = {path: path.read_text() for path in CLUSTER.rglob("*") if path.is_file()}
    operators = {version for text in texts.values() for version in re.findall(r"--version (\S+)", text)}
    assert len(operators) == 1
    readme = texts[CLUSTER / "README.md"]
    assert f"Ray {found['ray']} on all nodes" in readme
    assert f"MLflow {found['mlflow']}" in readme
    assert set(re.findall(r"raymc:(\d[\d.]*\d)", "\n".join(texts.values()))) == {raymc.__version__}


def test_containers_install_what_the_constraints_pin():
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    for path in (CLUSTER / "Containerfile", CLUSTER / "mlflow" / "Containerfile"):
        text = path.read_text().replace("\\\n", " ")
        assert re.search(r"^FROM python:(\d\.\d+)-slim$", text, re.MULTILINE)[1] >= "3.11", minor
        for command in re.findall(r"pip install (.*?)(?: && |\n|$)", text):
            assert "constraints.txt" in command
            for word in shlex.split(command.replace('"', "").replace("$(", "'$(").replace(")", ")'")):
                package = re.match(r"[A-Za-z][\w.-]*", word)
                if package and not word.startswith(("torch==",)):
                    assert package[0].lower() in {name.lower() for name in pins()}, word


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_sound(path):
    subprocess.run(["bash", "-n", path], check=True)
    shellcheck = Path(sys.executable).parent / "shellcheck"
    done = subprocess.run([shellcheck, "-x", path.relative_to(ROOT)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    first = path.read_text().splitlines()[0]
    assert bool(path.stat().st_mode & 0o100) == first.startswith("#!"), "what is run is executable, what is read isn't"


def test_slurms_options_are_ones_that_it_has():
    text = (CLUSTER / "slurm.sh").read_text()
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", text, re.MULTILINE))
    assert len(options) == text.count("#SBATCH ")
    assert text.index("#SBATCH") < text.index("set -euo")  # Slurm reads none after the first command
    assert int(options["nodes"]) > 1
    assert options["ntasks-per-node"] == "1"  # one raylet a node
    assert re.fullmatch(r"\d+:\d\d:\d\d", options["time"])
    shell, _, seconds = options["signal"].partition("@")
    assert shell == "B:TERM"  # to the script, whose trap stops the sweep
    assert int(seconds) > 60 + 60  # what a job may take to stop, and to be asked
    assert set(options) <= {
        *("job-name", "nodes", "ntasks-per-node", "cpus-per-task", "gpus-per-node"),
        *("time", "signal", "requeue", "open-mode", "output"),
    }


@pytest.mark.parametrize(
    "path", [*MANIFESTS, *SCRIPTS, CLUSTER / "mlflow" / "compose.yaml"], ids=lambda path: path.name
)
def test_a_file_says_how_it_is_used(path):
    lines = path.read_text().splitlines()
    header = [line for line in lines[:30] if line.startswith("# ")]
    assert len(header) >= 2
