"""Assemble the record of a result: submission, task, audio settings, scores and cost."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evaluator.backbone import Loaded
from evaluator.features.extraction import Extractor
from evaluator.features.store import Features
from evaluator.probes import metrics
from evaluator.probes.heads import HEADS
from evaluator.probes.logistic import Logistic
from evaluator.probes.search import Choice, alike, best_of_layer, edge_flags
from evaluator.probes.trainer import Curve
from evaluator.results.data_warnings import data_warnings
from evaluator.results.environment import describe
from evaluator.submission import Submission
from leaderboard.records.flags import data_flags, doubts
from leaderboard.records.plausibility import contradictions, prediction_problems
from leaderboard.records.predictions import PredictedScores, write_predictions
from leaderboard.records.protocol import Protocol
from leaderboard.records.record import (
    Efficiency,
    HeadInfo,
    LayerScore,
    Record,
    Reference,
    Selection,
    SubmissionInfo,
    TaskInfo,
    Trial,
    file_stem,
)
from leaderboard.records.stored import StoredRecord
from tasks.prepare import preparation
from tasks.support.errors import UserError
from tasks.task import Metric


@dataclass(frozen=True)
class Measured:
    """The results of search and test in one track.

    Attributes:
        trials: every learning rate of the search.
        choice: layer, rate and epoch that were selected on validation.
        epochs: validation metric per epoch of the chosen probe, for its first seed.
        curve: the best probe of each layer, on validation and test.
        reference: converged logistic regression on the chosen layer; None for a task that is too large for it.
        predictions: test scores of the chosen probe, per seed.
        scores: the fields of the record that `metrics_on_test` returns.
    """

    trials: list[Trial]
    choice: Choice
    epochs: list[float]
    curve: Curve
    reference: Logistic | None
    predictions: PredictedScores
    scores: dict[str, Any]


def store_record(
    directory: Path,
    record_id: str,
    *,
    submission: Submission,
    extractor: Extractor,
    features: Features,
    track: str,
    protocol: Protocol,
    limit: int | None,
    measured: Measured,
    cost: Efficiency,
    seconds: dict[str, float],
) -> StoredRecord:
    """Write predictions and record into ``directory``.

    The record is written last: if it exists, its predictions exist too.

    Raises:
        UserError: `beans records verify` would refuse the record.
    """
    choice = measured.choice
    head = HEADS.get(track)
    layers = _layer_scores(extractor.model, measured.trials, measured.curve.test)
    selection = _selection(measured, features)
    reference = None if measured.reference is None else Reference(**asdict(measured.reference))
    warnings = data_warnings(features, extractor)
    stem = file_stem(submission.name, features.manifest.task.name, track, record_id)
    record = Record(
        id=record_id,
        created=datetime.now(UTC),
        protocol=protocol.name,
        limit=limit,
        track=track,
        head=HeadInfo(help=head.help, version=head.version),
        submission=submission_info(submission, extractor.model),
        task=task_info(features),
        metric=features.manifest.task.metric,
        valid=choice.valid,
        **measured.scores,
        best_layer=choice.layer,
        best_layer_name=layers[choice.layer].name,
        lr=choice.lr,
        epoch=choice.epoch,
        flags=[
            *edge_flags(choice, protocol),
            *doubts(measured.scores["test"], reference, selection),
            *data_flags(warnings),
        ],
        selection=selection,
        reference=reference,
        data_warnings=warnings,
        layers=layers,
        trials=measured.trials,
        epochs=measured.epochs,
        predictions=write_predictions(directory, stem, measured.predictions),
        efficiency=cost,
        audio=audio_rules(extractor.model, features, track),
        seconds=seconds,
        environment=describe(extractor.device, protocol.precision),
    )
    problems = [*contradictions(record), *prediction_problems(record, measured.predictions)]
    if problems:
        (directory / record.predictions.file).unlink()
        raise UserError(f"The result is not published, because {'; '.join(problems[:3])}: {_advice(measured)}.")
    return StoredRecord.write(directory, record, measured.predictions)


def _advice(measured: Measured) -> str:
    if not np.isfinite(measured.predictions.scores).all():
        return f"training diverged at the learning rate {measured.choice.lr:g}; give lower rates with --lr"
    return "please report this sentence, with the command"


def with_todays_facts(stored: StoredRecord, submission: Submission, model: Loaded) -> StoredRecord:
    """The stored record with today's description from the submission file. Its results do not change."""
    record = stored.record
    info = submission_info(submission, model)
    today = record.submission.model_copy(update={"about": info.about, "parameters": info.parameters})
    if today == record.submission:
        return stored
    return stored.rewrite(record.model_copy(update={"submission": today}))


def _layer_scores(model: Loaded, trials: Sequence[Trial], curve: Sequence[float]) -> list[LayerScore]:
    scores = []
    for index, (layer, test) in enumerate(zip(model.backbone.layers, curve, strict=True)):
        best = best_of_layer(trials, index)
        scores.append(
            LayerScore(
                index=index,
                name=layer.name,
                width=layer.width,
                valid=best.valid,
                test=test,
                lr=best.lr,
                epoch=best.epoch,
            )
        )
    return scores


def _selection(measured: Measured, features: Features) -> Selection:
    return Selection(
        looks=sum(trial.looks or 0 for trial in measured.trials),
        recordings=len({item.recording for item in features.manifest.items["valid"]}),
        optimism=measured.choice.valid - measured.scores["test"],
        alike=alike(measured.curve.valid, measured.choice.layer),
    )


def submission_info(submission: Submission, model: Loaded) -> SubmissionInfo:
    """The record's entry for the submission."""
    about = submission.about
    return SubmissionInfo(
        name=submission.name,
        loader=submission.loader,
        arguments=submission.arguments,
        about=about.model_dump(mode="json", exclude_none=True) if about else {},
        weights_sha256=model.weights_sha256,
        # Parameters are counted. Embeddings from elsewhere have no model: then the submitter's number is used.
        parameters=model.parameters or (about.parameters if about and about.parameters else 0),
        sample_rate=model.backbone.sample_rate,
    )


def audio_rules(model: Loaded, features: Features, track: str) -> dict[str, str]:
    """How the audio was prepared for the backbone, in words. Streamed frames are stated too."""
    prepared = preparation(features.manifest.task)
    streamed = {"frames": "not kept: the backbone ran in every epoch"}
    return {
        "prepared": prepared.words if prepared else "as it lies",
        "sample_rate": str(model.backbone.sample_rate),
        "resampling": "soxr HQ",
        "channels": "mean",
        "normalisation": model.normalisation,
        "padding": "masked exactly" if model.exact_masking else "none, clips of equal length share a batch",
        "pooling": "valid frames",
        **(streamed if HEADS.get(track).reads_frames and features.streamed is not None else {}),
    }


def predicted_scores(features: Features, logits: Tensor) -> PredictedScores:
    """Test logits (seeds, items, classes) together with the ids, recordings and targets of the items."""
    items = features.manifest.items["test"]
    targets = features.targets("test").numpy()
    return PredictedScores(
        ids=[item.id for item in items],
        recordings=[item.recording for item in items],
        scores=logits.numpy(),
        targets=targets.astype(np.int64) if targets.ndim == 1 else targets.astype(np.uint8),
    )


def metrics_on_test(metric: Metric, test: PredictedScores, protocol: Protocol) -> dict[str, Any]:
    """Compute the test fields of a record from its predictions."""
    per_seed = metrics.score(metric, torch.from_numpy(test.scores), torch.from_numpy(test.targets)).double()
    low, high = metrics.bootstrap_interval(
        metric, test.scores, test.targets, test.recordings, resamples=protocol.bootstrap
    )
    return {
        "test": float(per_seed.mean()),
        "test_std": float(per_seed.std(correction=1)) if len(per_seed) > 1 else 0.0,
        "test_seeds": per_seed.tolist(),
        "ci_low": low,
        "ci_high": high,
        "secondary": metrics.secondary(metric, test.scores, test.targets),
    }


def task_info(features: Features) -> TaskInfo:
    """The record's entry for the task."""
    manifest = features.manifest
    rates = {clip.header.sample_rate for shards in features.plans.values() for shard in shards for clip in shard.clips}
    return TaskInfo(
        name=manifest.task.name,
        kind=manifest.task.kind,
        group=manifest.task.group,
        metric=manifest.task.metric,
        labels=list(manifest.labels),
        split_hash=manifest.split_hash,
        native_rates=sorted(rates),
        n_train=len(manifest.items["train"]),
        n_valid=len(manifest.items["valid"]),
        n_test=len(manifest.items["test"]),
    )
