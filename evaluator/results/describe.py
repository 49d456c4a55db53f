"""The facts that go into a record: who, what, how it was heard, what it scored."""

import hashlib
import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evaluator.backbone import Loaded
from evaluator.features.store import Features
from evaluator.probes import fit, metrics, search
from evaluator.probes.heads import HEADS, NEEDS_FRAMES
from evaluator.submission import Submission
from leaderboard.ranking import bootstrap
from leaderboard.records.predictions import PredictedScores
from leaderboard.records.protocol import Protocol
from leaderboard.records.record import SubmissionInfo, TaskInfo
from tasks.prepare import preparation
from tasks.task import Metric


def identity(submission: Submission, features: Features, track: str, rules: Protocol, limit: int | None) -> str:
    """What a result depends on: weights, audio, labels, rules, and the versions of the stages that train and score."""
    content = {
        "submission": submission.name,
        "features": features.directory.name,
        "task": features.manifest.task.name,
        "split": features.manifest.split_hash,
        "labels": features.manifest.labels,
        "metric": features.manifest.task.metric,
        "shards": {split: [shard.name for shard in shards] for split, shards in features.plans.items()},
        "track": track,
        "protocol": rules.name,
        "limit": limit,
        "versions": {
            "head": HEADS[track].VERSION,
            "training": fit.VERSION,
            "search": search.VERSION,
            "metrics": metrics.VERSION,
            "bootstrap": bootstrap.VERSION,
        },
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def submission_info(submission: Submission, model: Loaded) -> SubmissionInfo:
    """Who was measured."""
    about = submission.about
    return SubmissionInfo(
        name=submission.name,
        loader=submission.loader,
        arguments=submission.arguments,
        about=about.model_dump(mode="json", exclude_none=True) if about else {},
        weights_sha256=model.weights_sha256,
        # What can be counted is counted; embeddings from elsewhere have only the submitter's word.
        parameters=model.parameters or (about.parameters if about and about.parameters else 0),
        sample_rate=model.backbone.sample_rate,
    )


def audio_rules(model: Loaded, features: Features, track: str) -> dict[str, str]:
    """What was done to the sound before the backbone heard it, in words, and to what it said where that is unusual."""
    done = preparation(features.manifest.task)
    streamed = {"frames": "not kept: the backbone ran in every epoch"}
    return {
        "prepared": done.words if done else "as it lies",
        "sample_rate": str(model.backbone.sample_rate),
        "resampling": "torchaudio sinc, default kernel",
        "channels": "mean",
        "normalisation": model.normalisation,
        "padding": "masked exactly" if model.exact_masking else "none, clips of equal length share a batch",
        "pooling": "valid frames",
        **(streamed if NEEDS_FRAMES[track] and features.streamed is not None else {}),
    }


def predicted_scores(features: Features, logits: Tensor) -> PredictedScores:
    """(seeds, items, classes) test logits with the items they are about."""
    items = features.manifest.items["test"]
    targets = features.targets("test").numpy()
    return PredictedScores(
        ids=[item.id for item in items],
        recordings=[item.recording for item in items],
        scores=logits.numpy(),
        targets=targets.astype(np.int64) if targets.ndim == 1 else targets.astype(np.uint8),
    )


def metrics_on_test(metric: Metric, test: PredictedScores, rules: Protocol) -> dict[str, Any]:
    """The test fields of a record."""
    per_seed = metrics.score(metric, torch.from_numpy(test.scores), torch.from_numpy(test.targets)).double()
    low, high = metrics.bootstrap_interval(
        metric, test.scores, test.targets, test.recordings, resamples=rules.bootstrap
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
    """What was measured."""
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
