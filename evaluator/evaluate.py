"""The whole story on one page: a submission and a task in, a record out."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import torch
from filelock import FileLock

from evaluator.backbone import ready
from evaluator.checks import require
from evaluator.efficiency.cost import cost
from evaluator.features.extraction import Extractor
from evaluator.features.store import Features, FeatureStore
from evaluator.probes import search
from evaluator.probes.heads import needs_frames
from evaluator.probes.search import best_of_layer, edge_flags, select
from evaluator.probes.trainer import Trainer
from evaluator.results.describe import (
    audio_rules,
    identity,
    metrics_on_test,
    predicted_scores,
    submission_info,
    task_info,
)
from evaluator.results.environment import describe
from evaluator.submission import Submission
from evaluator.tracking.connection import TrackingError
from evaluator.tracking.runs import track
from leaderboard.database.store import Store
from leaderboard.ranking.resamples import scored
from leaderboard.records.failure import Failure, for_others
from leaderboard.records.files import confirm, imported_path, read_imported, read_record, read_tracking, write_record
from leaderboard.records.predictions import write_predictions
from leaderboard.records.protocol import Protocol
from leaderboard.records.record import Efficiency, LayerScore, Record, Tracking, file_stem
from tasks.support.errors import UserError
from tasks.support.home import Home
from tasks.support.progress import Report, silent
from tasks.task import Manifest


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
    store: FeatureStore
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
        frames_budget: int | None,
        report: Report,
    ) -> "Evaluation":
        """Load the backbone and measure what it costs.

        Raises:
            UserError: the submission does not load, or is not what it declares.
        """
        start = time.perf_counter()
        report(f"{submission.name}: loading", 0, 1)
        model = ready(submission.load(), device)
        try:
            extractor = Extractor.of(model, device, rules.precision)
            store = FeatureStore(home.features, frames_budget)
            # Once for each backbone as it is: a warm run starts at once.
            if not store.is_checked(extractor):
                require(extractor, name=submission.name, report=report)
                store.mark_checked(extractor)
        except UserError as error:
            raise UserError(f"Submission {submission.name} ({submission.path}): {error}") from error
        measured = cost(submission, device, rules.precision)
        return cls(submission, extractor, store, measured, rules, home, limit, time.perf_counter() - start, report)

    def run(self, manifest: Manifest, tracks: Sequence[str]) -> Iterator[Outcome]:
        """One task in every track; features are extracted once for all of them.

        Raises:
            UserError: the task's audio or features cannot be used. What is done is kept.
        """
        clock = Clock({"load": self.load_seconds})
        what = f"{self.submission.name} · {manifest.task.name}: audio"
        with clock.phase("features"):
            features = self.store.extract(
                self.extractor,
                manifest,
                frames=needs_frames(tracks),
                on_progress=lambda progress: self.report(what, progress.done, progress.total),
            )
        for track_name in tracks:
            record_id = identity(self.submission, features, track_name, self.rules, self.limit)
            self.home.locks.mkdir(parents=True, exist_ok=True)
            # A second process on the same home waits here, and then finds the record.
            with FileLock(self.home.locks / f"{record_id}.lock"):
                path = _existing(self.home.records, record_id)
                reused = path is not None
                if path is None:
                    path = self._evaluate(features, track_name, record_id, Clock(dict(clock.seconds)))
                    imported_path(path).unlink(missing_ok=True)
                record = self._refresh(path)
            yield self._hand_over(record, path, reused)

    def _evaluate(self, features: Features, track_name: str, record_id: str, clock: Clock) -> Path:
        where = f"{self.submission.name} · {features.manifest.task.name} · {track_name}"
        trainer = Trainer(features, track_name, self.extractor.device, self.rules)

        def train(rates: list[float], begin: float, end: float) -> list[tuple[list[float], list[int]]]:
            def on_epoch(done: int, total: int) -> None:
                self.report(f"{where}: probes", begin + (end - begin) * done / total, 1)

            return trainer.rates(rates, on_epoch)

        with clock.phase("search"):
            trials = search.search(
                train,
                self.rules,
                storage=self.home.optuna_storage,
                study_name=f"{where} · {record_id}",
            )
        choice = select(trials)
        best = [best_of_layer(trials, layer) for layer in range(len(trials[0].valid))]
        # From here on nothing is chosen any more, and the test split may be read.
        with clock.phase("test"):
            self.report(f"{where}: test", 0, 1)
            logits, epochs = trainer.test(choice)
            curve = trainer.test_curve(best)
        with clock.phase("interval"):
            test = predicted_scores(features, logits)
            outcome = metrics_on_test(trainer.metric, test, self.rules)
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
        # The record is written last: where it stands, its predictions stand too.
        stem = file_stem(self.submission.name, features.manifest.task.name, track_name, record_id)
        predictions = write_predictions(self.home.records, stem, test)
        record = Record(
            id=record_id,
            created=datetime.now(UTC),
            protocol=self.rules.name,
            limit=self.limit,
            track=track_name,
            submission=submission_info(self.submission, self.extractor.model),
            task=task_info(features),
            metric=trainer.metric,
            valid=choice.valid,
            **outcome,
            best_layer=choice.layer,
            best_layer_name=layers[choice.layer].name,
            lr=choice.lr,
            epoch=choice.epoch,
            flags=edge_flags(choice, self.rules),
            layers=layers,
            trials=trials,
            epochs=epochs,
            predictions=predictions,
            efficiency=self.cost,
            audio=audio_rules(self.extractor.model, features, track_name),
            seconds=clock.seconds,
            environment=describe(self.extractor.device, self.rules.precision),
        )
        return write_record(self.home.records, record)

    def _refresh(self, path: Path) -> Record:
        """A record as the submission file describes it today: readers' facts may change, results may not."""
        record = read_record(path)
        info = submission_info(self.submission, self.extractor.model)
        today = {"about": info.about, "parameters": info.parameters}
        if record.submission.model_copy(update=today) != record.submission:
            record = record.model_copy(update={"submission": record.submission.model_copy(update=today)})
            write_record(path.parent, record)
        return record

    def tell_board(
        self, task: str, tracks: Sequence[str], kind: Literal["failed", "not prepared"], reason: str
    ) -> None:
        """Have the board say in its empty cells why there is no result; a board that is down is told nothing."""
        store = Store(self.home.database_url)
        # What failed is said where it failed: that the board has not heard of it changes nothing for who reads it here.
        with suppress(UserError):
            for track_name in tracks:
                store.publish_failure(
                    Failure(
                        submission=self.submission.name,
                        weights_sha256=self.extractor.model.weights_sha256,
                        task=task,
                        track=track_name,
                        protocol=self.rules.name,
                        limit=self.limit,
                        at=datetime.now(UTC),
                        kind=kind,
                        reason=for_others(reason),
                    )
                )

    def _hand_over(self, record: Record, path: Path, reused: bool) -> Outcome:
        """Send the record to MLflow and to the board; neither being down loses anything."""
        warnings = []
        if not reused and "frames" in record.audio:
            warnings.append("Its frames did not fit the disk (--frames-budget), so the backbone ran in every epoch.")
        run = read_tracking(path)
        try:
            run = track(path, self.home.tracking_uri, self.home.artifacts)
        except TrackingError as error:
            warnings.append(str(error))
        try:
            if reused:
                confirm(path)
            warnings += Store(self.home.database_url).publish_file(path)
        except UserError as error:
            warnings.append(f"{error} The record is kept: `beans leaderboard rebuild` puts it on the board.")
        try:
            # Here and not when the board is looked at, since it takes seconds.
            scored(self.home.records, record)
        except UserError as error:
            warnings.append(f"{error} Its rank has no interval.")
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


def evaluate(
    submission: Submission,
    manifests: Sequence[Manifest],
    tracks: Sequence[str],
    rules: Protocol,
    home: Home,
    *,
    device: torch.device,
    limit: int | None = None,
    frames_budget: int | None = None,
    unprepared: Mapping[str, str] | None = None,
    report: Report = silent,
) -> Iterator[Outcome]:
    """Evaluate one submission: one outcome per task and track, a failed task without its record.

    A task that fails leaves the others to run. The board is told of it, and of the tasks in ``unprepared``: those that
    were asked for and cannot be run, each with the reason. ``frames_budget`` is that of `FeatureStore`.

    Raises:
        UserError: the submission cannot be loaded, so that no task can run.
    """
    evaluation = Evaluation.begin(submission, rules, home, device, limit, frames_budget, report)
    for task, reason in (unprepared or {}).items():
        evaluation.tell_board(task, tracks, "not prepared", reason)
    for manifest in manifests:
        finished: set[str] = set()
        try:
            for outcome in evaluation.run(manifest, tracks):
                finished.add(outcome.track)
                yield outcome
        except UserError as error:
            failed = [name for name in tracks if name not in finished]
            evaluation.tell_board(manifest.task.name, failed, "failed", str(error))
            for name in failed:
                yield Outcome(submission.name, manifest.task.name, name, error=str(error))


def _existing(records: Path, record_id: str) -> Path | None:
    """The record of that id that was made here; what somebody sent is no reason not to measure."""
    found = records.glob(f"*.{record_id}.json")
    return next((path for path in found if read_imported(path) is None), None)
