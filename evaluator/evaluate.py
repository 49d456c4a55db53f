"""The whole story on one page: a submission and a task in, a record out."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from evaluator import efficiency, heads, metrics, probes, protocol, search, trainer
from evaluator.backbones import ready
from evaluator.environment import describe, device_name
from evaluator.extraction import Extractor
from evaluator.features import Features, FeatureStore
from evaluator.protocol import Protocol
from evaluator.search import best_of_layer, edge_flags, select
from evaluator.submission import Submission
from evaluator.tracking import TrackingError, track
from evaluator.trainer import Trainer
from leaderboard.predictions import TestScores, write_predictions
from leaderboard.record import (
    Efficiency,
    LayerScore,
    Predictions,
    Record,
    SubmissionInfo,
    TaskInfo,
    Tracking,
    read_record,
    read_tracking,
    write_record,
)
from leaderboard.store import Store
from tasks.errors import UserError
from tasks.home import Home
from tasks.task import Manifest

Report = Callable[[str, float, float], None]
"""Told what is being done, and how much of how much of it is."""


@dataclass(frozen=True)
class Outcome:
    """What became of one submission on one task in one track.

    Attributes:
        record: the result, or None where it failed.
        path: where the record lies.
        reused: it was there already.
        error: why there is no record, in one sentence.
        warnings: what went wrong after the record was safe, in one sentence each.
        tracking: its MLflow run, or None.
    """

    submission: str
    task: str
    track: str
    record: Record | None = None
    path: Path | None = None
    reused: bool = False
    error: str | None = None
    warnings: tuple[str, ...] = ()
    tracking: Tracking | None = None


@dataclass
class Clock:
    """Seconds of wall time by phase."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time spent inside to ``name``."""
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


@dataclass(frozen=True)
class Evaluation:
    """A loaded submission with where its results go; ``run`` evaluates it on one task."""

    submission: Submission
    extractor: Extractor
    cost: Efficiency
    rules: Protocol
    home: Home
    limit: int | None
    load_seconds: float
    report: Report

    @classmethod
    def begin(
        cls,
        submission: Submission,
        rules: Protocol,
        home: Home,
        device: torch.device,
        limit: int | None,
        report: Report,
    ) -> "Evaluation":
        """Load the backbone and measure what it costs.

        Raises:
            UserError: the submission does not load, or is not what it declares.
        """
        start = time.perf_counter()
        report(f"{submission.name}: loading", 0, 1)
        model = ready(submission.load(), device)
        extractor = Extractor.of(model, device, rules.precision)
        cost = _cost(submission, device)
        return cls(submission, extractor, cost, rules, home, limit, time.perf_counter() - start, report)

    def run(self, manifest: Manifest, tracks: Sequence[str]) -> Iterator[Outcome]:
        """One task in every track; features are extracted once for all of them.

        Raises:
            UserError: the task's audio or features cannot be used. What is done is kept.
        """
        clock = Clock({"load": self.load_seconds})
        name = manifest.task.name
        with clock.phase("features"):
            features = FeatureStore(self.home.features).extract(
                self.extractor,
                manifest,
                tracks,
                lambda progress: self.report(f"{self.submission.name} · {name}: audio", progress.done, progress.total),
            )
        for track_name in tracks:
            identity = self._identity(features, track_name)
            self.home.locks.mkdir(parents=True, exist_ok=True)
            # A second process on the same home waits here, and then finds the record.
            with FileLock(self.home.locks / f"{identity}.lock"):
                path = _existing(self.home.records, identity)
                reused = path is not None
                if path is None:
                    path = self._evaluate(features, track_name, identity, Clock(dict(clock.seconds)))
                record = self._refresh(path)
            yield self._hand_over(record, path, reused)

    def _evaluate(self, features: Features, track_name: str, identity: str, clock: Clock) -> Path:
        where = f"{self.submission.name} · {features.manifest.task.name} · {track_name}"
        trainer = Trainer(features, track_name, self.extractor.device, self.rules)
        with clock.phase("search"):
            trials = search.search(
                lambda rates: trainer.rates(rates, lambda done, total: self.report(f"{where}: probes", done, total)),
                self.rules,
                storage=self.home.optuna_storage,
                study_name=f"{where} · {identity}",
            )
        choice = select(trials)
        best = [best_of_layer(trials, layer) for layer in range(len(trials[0].valid))]
        # From here on nothing is chosen any more, and the test split may be read.
        with clock.phase("test"):
            self.report(f"{where}: test", 0, 1)
            logits, epochs = trainer.test(choice)
            curve = trainer.test_curve(best)
        with clock.phase("interval"):
            test = TestScores(
                ids=[item.id for item in features.manifest.items["test"]],
                recordings=[item.recording for item in features.manifest.items["test"]],
                scores=logits.numpy(),
                targets=_targets(features),
            )
            outcome = _score(features.manifest, test, self.rules)
        layers = [
            LayerScore(
                index=index,
                name=layer.name,
                width=layer.width,
                valid=found.valid,
                test=on_test,
                lr=found.lr,
                epoch=found.epoch,
            )
            for index, (layer, found, on_test) in enumerate(
                zip(self.extractor.model.backbone.layers, best, curve, strict=True)
            )
        ]
        name = layers[choice.layer].name
        record = Record(
            id=identity,
            created=datetime.now(UTC),
            protocol=self.rules.name,
            limit=self.limit,
            track=track_name,
            submission=self._about_submission(),
            task=_about_task(features),
            metric=features.manifest.task.metric,
            valid=choice.valid,
            **outcome,
            best_layer=choice.layer,
            best_layer_name=name,
            lr=choice.lr,
            epoch=choice.epoch,
            flags=edge_flags(choice, self.rules),
            layers=layers,
            trials=trials,
            epochs=epochs,
            predictions=Predictions(file="none", sha256="0" * 64),
            efficiency=self.cost,
            audio=self._audio_rules(),
            seconds=clock.seconds,
            environment=describe(self.extractor.device, self.rules.precision),
        )
        # The record is written last: where it stands, its predictions stand too.
        predictions = write_predictions(self.home.records, record.stem, test)
        return write_record(self.home.records, record.model_copy(update={"predictions": predictions}))

    def _refresh(self, path: Path) -> Record:
        """A record as the submission file describes it today: readers' facts may change, results may not."""
        record = read_record(path)
        if record.submission.about != self._about_submission().about:
            info = record.submission.model_copy(update={"about": self._about_submission().about})
            record = record.model_copy(update={"submission": info})
            write_record(path.parent, record)
        return record

    def _hand_over(self, record: Record, path: Path, reused: bool) -> Outcome:
        """Send the record to MLflow and to the board; neither being down loses anything."""
        warnings = []
        run = read_tracking(path)
        try:
            run = track(path, self.home.tracking_uri, self.home.artifacts)
        except TrackingError as error:
            warnings.append(str(error))
        try:
            Store(self.home.database_url).publish(record, run)
        except UserError as error:
            warnings.append(f"{error} The record is kept: `beans leaderboard rebuild` puts it on the board.")
        return Outcome(
            submission=record.submission.name,
            task=record.task.name,
            track=record.track,
            record=record,
            path=path,
            reused=reused,
            warnings=tuple(warnings),
            tracking=run,
        )

    def _identity(self, features: Features, track_name: str) -> str:
        """What a result depends on: weights, audio, labels, rules, and the code that trains and scores."""
        code = [Path(str(module.__file__)) for module in (heads, metrics, probes, protocol, search, trainer)]
        content = {
            "submission": self.submission.name,
            "features": features.directory.name,
            "task": features.manifest.task.name,
            "split": features.manifest.split_hash,
            "labels": features.manifest.labels,
            "metric": features.manifest.task.metric,
            "shards": {split: [shard.name for shard in shards] for split, shards in features.plans.items()},
            "track": track_name,
            "protocol": self.rules.name,
            "limit": self.limit,
            "code": [hashlib.sha256(path.read_bytes()).hexdigest() for path in code],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def _about_submission(self) -> SubmissionInfo:
        model = self.extractor.model
        about = self.submission.about
        return SubmissionInfo(
            name=self.submission.name,
            loader=self.submission.loader,
            arguments=self.submission.arguments,
            about=about.model_dump(mode="json") if about else {},
            weights_sha256=model.weights_sha256,
            parameters=model.parameters,
            sample_rate=model.backbone.sample_rate,
        )

    def _audio_rules(self) -> dict[str, str]:
        model = self.extractor.model
        return {
            "sample_rate": str(model.backbone.sample_rate),
            "resampling": "torchaudio sinc, default kernel",
            "channels": "mean",
            "normalisation": model.normalisation,
            "padding": "masked exactly" if model.exact_masking else "none, clips of equal length share a batch",
            "pooling": "valid frames",
        }


def evaluate(
    submission: Submission,
    manifests: Sequence[Manifest],
    tracks: Sequence[str],
    rules: Protocol,
    home: Home,
    *,
    device: torch.device,
    limit: int | None = None,
    report: Report = lambda what, done, total: None,
) -> Iterator[Outcome]:
    """Evaluate one submission: one outcome per task and track, a failed task without its record.

    A task that fails leaves the others to run.

    Raises:
        UserError: the submission cannot be loaded, so that no task can run.
    """
    evaluation = Evaluation.begin(submission, rules, home, device, limit, report)
    for manifest in manifests:
        finished: set[str] = set()
        try:
            for outcome in evaluation.run(manifest, tracks):
                finished.add(outcome.track)
                yield outcome
        except UserError as error:
            for name in tracks:
                if name not in finished:
                    yield Outcome(submission.name, manifest.task.name, name, error=str(error))


def _existing(records: Path, identity: str) -> Path | None:
    return next((path for path in records.glob(f"*.{identity}.json")), None)


def _targets(features: Features) -> NDArray[np.int64] | NDArray[np.uint8]:
    targets = features.targets("test").numpy()
    return targets.astype(np.int64) if targets.ndim == 1 else targets.astype(np.uint8)


def _score(manifest: Manifest, test: TestScores, rules: Protocol) -> dict[str, Any]:
    """The test fields of a record."""
    metric = manifest.task.metric
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


def _about_task(features: Features) -> TaskInfo:
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


def _cost(submission: Submission, device: torch.device) -> Efficiency:
    name = device_name(device)
    if device.type != "cuda":
        return Efficiency(device=name, reason="no GPU: peak memory is measured on CUDA devices only")
    try:
        cost = efficiency.measure_in_fresh_process(submission.path)
    except RuntimeError as error:
        return Efficiency(device=name, reason=f"measurement failed: {error}")
    return Efficiency(
        device=cost.device, vram_bytes=cost.vram_bytes, weights_bytes=cost.weights_bytes, seconds=cost.seconds
    )
