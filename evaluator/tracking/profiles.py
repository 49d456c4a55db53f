"""Send a profile to MLflow as one run. The step of its metrics is the clip length, so that MLflow draws the curve."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from evaluator.tracking.connection import address, connect, is_http
from evaluator.tracking.runs import is_finished, open_experiment
from leaderboard.records.profile import Profile, note_path, read_profile
from leaderboard.records.record import Tracking
from tasks.support.files import write_atomically

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "beans-efficiency"


def log_profile(profile_file: Path, uri: str, artifacts: Path, *, again: str) -> Tracking:
    """Log one profile as one MLflow run, and write a note of the run beside the profile.

    A run never changes. When points have been added to a profile, a new run replaces the old one.

    Args:
        profile_file: the profile.
        uri: MLflow's tracking address.
        artifacts: where a new experiment stores its files; a server at ``uri`` uses its own place.
        again: the command that sends it later, for the error.

    Raises:
        TrackingError: MLflow cannot be reached or refuses; the profile does not change.
        UserError: the profile cannot be read.
    """
    profile = read_profile(profile_file)
    with connect(uri, profile_file.parent, what="profile", again=again) as client:
        place = None if is_http(uri) else artifacts.resolve().as_uri()
        experiment = open_experiment(client, EXPERIMENT, place)
        run_id = _run_of(client, experiment, profile) or _log(client, experiment, profile_file, profile)
        note = Tracking(uri=address(uri), experiment_id=experiment, run_id=run_id)
        write_atomically(note_path(profile_file), note.model_dump_json(indent=2))
        return note


def metric_points(profile: Profile) -> list[tuple[str, float, int]]:
    """All metrics as (name, value, step); the step is the clip's length in whole seconds.

    Memory of a GPU and of a host have different names, so that no chart of MLflow shows both as one metric.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    memory = "vram" if profile.kind == "cuda" else "host"
    points: list[tuple[str, float, int]] = []
    for point in profile.points:
        values = {
            f"{memory}.peak_bytes": point.peak_bytes,
            f"{memory}.reserved_bytes": point.reserved_bytes,
            f"{memory}.weights_bytes": point.weights_bytes,
            f"{memory}.activation_bytes": point.activation_bytes,
            "latency_seconds": point.latency_seconds,
            "latency_p90_seconds": point.latency_p90_seconds,
            "audio_seconds_per_second": profile.throughput(point),
            "multiply_adds": point.multiply_adds,
        }
        points += [(name, value, round(point.seconds)) for name, value in values.items() if value is not None]
    for name, value, step in points:
        if not math.isfinite(value):
            raise ValueError(f"Metric {name} is {value} at {step} s in profile {profile.stem}: it must be finite.")
    return points


def _log(client: MlflowClient, experiment: str, profile_file: Path, profile: Profile) -> str:
    from mlflow.entities import Metric, Param

    created = int(profile.created.timestamp() * 1000)
    metrics = [Metric(name, float(value), created, step) for name, value, step in metric_points(profile)]
    params = [Param(key, str(value)) for key, value in _params(profile).items()]
    name = f"{profile.submission} · profile · {profile.device}"
    run = client.create_run(experiment, start_time=created, tags=_tags(profile), run_name=name)
    run_id: str = run.info.run_id
    client.log_batch(run_id, metrics=metrics, params=params, synchronous=True)
    client.log_artifact(run_id, str(profile_file))
    client.set_terminated(run_id, "FINISHED", end_time=created)
    return run_id


def _params(profile: Profile) -> dict[str, object]:
    return {
        "submission": profile.submission,
        "loader": profile.loader,
        "arguments": json.dumps(profile.arguments, sort_keys=True, default=str),
        "weights_sha256": profile.weights_sha256,
        "parameters": profile.parameters,
        "sample_rate": profile.sample_rate,
        "precision": profile.precision,
        "batch": profile.batch,
        "attention": profile.attention,
        "kind": profile.kind,
        "not_measured": ", ".join(f"{p.seconds:g} s: {p.outcome}" for p in profile.points if p.outcome != "measured")
        or "none",
    }


def _tags(profile: Profile) -> dict[str, str]:
    environment = profile.environment
    tags = {
        "profile_id": profile.id,
        "profile_sha256": _digest(profile),
        "backbone": profile.submission,
        "task": "none",
        "device": profile.device,
        "git_commit": environment.git_commit or "unknown",
        "git_dirty": "unknown" if environment.git_dirty is None else str(environment.git_dirty).lower(),
    }
    if environment.git_commit:
        tags["mlflow.source.git.commit"] = environment.git_commit
    return tags


def _run_of(client: MlflowClient, experiment: str, profile: Profile) -> str | None:
    """The finished run of this state of the profile, or None. Unfinished runs and runs of older states are deleted."""
    kept: str | None = None
    for run in client.search_runs([experiment], f"tags.profile_id = '{profile.id}'"):
        same = run.data.tags.get("profile_sha256") == _digest(profile)
        if kept is None and same and is_finished(client, run.info.run_id):
            kept = run.info.run_id
        else:
            client.delete_run(run.info.run_id)
    return kept


def _digest(profile: Profile) -> str:
    return hashlib.sha256(profile.model_dump_json().encode()).hexdigest()
