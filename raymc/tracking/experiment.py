"""The MLflow experiment of a project: found by name, or made with a description of what its runs are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raymc.tracking.tracker import TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient

TAGS = {
    "mlflow.note.content": "**A run is a sweep** of raymc: its page says what was found and has the report. "
    "**The runs in it are its minima**, which Models lists with their weights' places.",
    "mlflow.experimentKind": "custom_model_development",
}


def experiment_id(client: MlflowClient, name: str, artifact_root: str | None, place: str) -> str:
    """Its id. `artifact_root`: where a new one keeps its files; None: as the server decides.

    `place`: what errors say of where MLflow is. Raises TrackingError for an experiment that was deleted.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            client.create_experiment(name, artifact_location=artifact_root, tags=TAGS)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # else another process was first
                raise
        found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        raise TrackingError(
            f"MLflow at {place}: experiment {name!r} was deleted: restore it there "
            "(mlflow experiments restore), or name another in tracking.experiment"
        )
    return found.experiment_id
