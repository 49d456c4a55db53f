"""The id of a record: a hash of everything that its numbers depend on."""

import hashlib
import json

from evaluator.features.store import Features
from evaluator.probes import logistic, metrics, search
from evaluator.probes.automatic import VERSION as AUTOMATIC
from evaluator.probes.fit import VERSION as TRAINING
from evaluator.probes.heads import HEADS
from evaluator.submission import Submission
from leaderboard.ranking import bootstrap
from leaderboard.records.protocol import Protocol


def identity(submission: Submission, features: Features, track: str, protocol: Protocol, limit: int | None) -> str:
    """The record's id: 16 hexadecimal digits, a hash of weights, audio, labels, protocol and versions of the stages.

    No source text, file name or file time is part of it: the same content gives the same id everywhere.
    """
    head = HEADS.get(track)
    content = {
        "submission": submission.name,
        "features": features.directory.name,
        "task": features.manifest.task.name,
        "split": features.manifest.split_hash,
        "labels": features.manifest.labels,
        "metric": features.manifest.task.metric,
        "shards": {split: [shard.name for shard in shards] for split, shards in features.plans.items()},
        "track": track,
        "protocol": protocol.name,
        "limit": limit,
        "versions": {
            "head": head.version,
            **({} if head.stacked else {"automatic": AUTOMATIC}),
            "training": TRAINING,
            "search": search.VERSION,
            "logistic": logistic.VERSION,
            "metrics": metrics.VERSION,
            "bootstrap": bootstrap.VERSION,
        },
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
