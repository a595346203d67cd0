"""Minima as MLflow's logged models: by where they lie, without a copy, tied to the run that made them."""

from __future__ import annotations

import re
import tempfile
from typing import TYPE_CHECKING

from raymc.specs.secrets import without_secrets
from raymc.tracking.records import Record

if TYPE_CHECKING:
    from mlflow import MlflowClient


def model_name(record: Record) -> str:
    """The record's name as MLflow takes one of a model: no / : . % or quotes; the sweep in front."""
    told = f"{record.identity['raymc.sweep']}: {record.name}"
    clean = re.sub(r"(?<=\d)\.(?=\d)", ",", told).replace(": ", " ", 1)
    return re.sub(r"""[/:.%"'\\]""", "-", clean)[:250]


def models_of(client: MlflowClient, experiment: str, run_id: str) -> list[str]:
    """Ids of a run's models, the oldest first; more than one where creation was cut off."""
    found = client.search_logged_models([experiment], filter_string=f"source_run_id = '{run_id}'", max_results=50)
    ordered = sorted(found, key=lambda model: (model.creation_timestamp, model.model_id))
    return [model.model_id for model in ordered]


def put_model(client: MlflowClient, experiment: str, run_id: str, record: Record) -> str:
    """The id of the run's model, made where it isn't there; `create_external_model`, with a client of its own."""
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus
    from mlflow.models.model import MLMODEL_FILE_NAME
    from mlflow.models.utils import get_external_mlflow_model_spec
    from mlflow.utils.mlflow_tags import MLFLOW_MODEL_IS_EXTERNAL

    held = models_of(client, experiment, run_id)
    for extra in held[1:]:
        client.delete_logged_model(extra)
    model = client.get_logged_model(held[0]) if held else None
    if model is None:
        tags = {**record.identity, "raymc.uri": without_secrets(record.model), MLFLOW_MODEL_IS_EXTERNAL: "true"}
        tags["mlflow.note.content"] = record.tags["mlflow.note.content"]
        model = client.create_logged_model(
            experiment,
            name=model_name(record),
            source_run_id=run_id,
            tags=tags,
            params=record.params,
            model_type=record.identity["raymc.kind"],
        )
    if model.status != LoggedModelStatus.READY:
        with tempfile.TemporaryDirectory(prefix="raymc-tracking-") as folder:
            get_external_mlflow_model_spec(model).save(f"{folder}/{MLMODEL_FILE_NAME}")
            client.log_model_artifacts(model.model_id, folder)
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    outputs = client.get_run(run_id).outputs
    if outputs is None or model.model_id not in {one.model_id for one in outputs.model_outputs}:
        last = max((point.step for point in record.points), default=0)
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, last)])
    return model.model_id
