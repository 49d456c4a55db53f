"""Evaluate a submission on tasks, from the submission file to the published records."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from filelock import FileLock

from evaluator.backbone import ready
from evaluator.checks import require
from evaluator.efficiency.cost import cost
from evaluator.features.extraction import Extractor
from evaluator.features.forward import is_out_of_memory
from evaluator.features.store import Features, FeatureStore
from evaluator.probes.heads import needs_frames
from evaluator.probes.search import Tried, best_of_layer, search, select
from evaluator.probes.trainer import Trainer
from evaluator.results.assemble import Measured, metrics_on_test, predicted_scores, store_record, with_todays_facts
from evaluator.results.clock import Clock
from evaluator.results.identity import identity
from evaluator.results.outcome import Outcome
from evaluator.results.publish import publish, publish_failure
from evaluator.submission import Submission
from leaderboard.records.failure import FailureKind
from leaderboard.records.files import imported_path
from leaderboard.records.protocol import Protocol
from leaderboard.records.record import Efficiency
from leaderboard.records.stored import StoredRecord, made_here
from tasks.support.errors import UserError
from tasks.support.home import Home
from tasks.support.progress import Report, silent
from tasks.task import Manifest


def evaluate(
    submission: Submission,
    manifests: Sequence[Manifest],
    tracks: Sequence[str],
    protocol: Protocol,
    home: Home,
    *,
    device: torch.device,
    limit: int | None = None,
    frames_budget: int | None = None,
    unprepared: Mapping[str, str] | None = None,
    report: Report = silent,
) -> Iterator[Outcome]:
    """Evaluate one submission: one outcome per task and track, without a record where the task failed.

    A task that fails does not stop the others. The board shows why its cell is empty. The same holds for the tasks in
    ``unprepared``: they were requested but cannot run.

    Args:
        submission: the submission to load.
        manifests: the tasks.
        tracks: names of heads.
        protocol: the rules.
        home: where features, records and databases are.
        device: where the backbone and the probes run.
        limit: how many items per split the manifests were limited to, or None.
        frames_budget: bytes of disk for the frames of a task, as in `FeatureStore`.
        unprepared: by task name, why it cannot run.
        report: receives the progress.

    Raises:
        UserError: the submission cannot be loaded, so that no task can run.
    """
    evaluation = Evaluation.begin(submission, protocol, home, device, limit, frames_budget, report)
    for task, reason in (unprepared or {}).items():
        evaluation.note_failures(task, tracks, "not prepared", reason)
    for manifest in manifests:
        finished: set[str] = set()
        try:
            for outcome in evaluation.run(manifest, tracks):
                finished.add(outcome.track)
                yield outcome
        except UserError as error:
            failed = [track for track in tracks if track not in finished]
            evaluation.note_failures(manifest.task.name, failed, "failed", str(error))
            for track in failed:
                yield Outcome(submission.name, manifest.task.name, track, error=str(error))


@contextmanager
def _enough_memory(manifest: Manifest) -> Iterator[None]:
    """Raise a UserError where memory runs out. The features are stored, and finished trials too."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"Memory ran out while probes were trained on {len(manifest.items['train'])} items of"
            f" {len(manifest.labels)} classes: use a machine with more memory, fewer --trials or --seeds, or fewer"
            " classes. The features are kept."
        ) from error


@dataclass(frozen=True)
class Evaluation:
    """A loaded submission with its settings and the home for its results."""

    submission: Submission
    extractor: Extractor
    store: FeatureStore
    cost: Efficiency
    protocol: Protocol
    home: Home
    limit: int | None
    load_seconds: float
    report: Report

    @classmethod
    def begin(
        cls,
        submission: Submission,
        protocol: Protocol,
        home: Home,
        device: torch.device,
        limit: int | None,
        frames_budget: int | None,
        report: Report,
    ) -> "Evaluation":
        """Load the backbone, check it, and measure its cost."""
        start = time.perf_counter()
        report(f"{submission.name}: loading", 0, 1)
        backbone = submission.load()
        store = FeatureStore(home.features, frames_budget)
        try:
            model = ready(backbone, device)
            extractor = Extractor.of(model, device, protocol.precision)
            # Once per backbone: a second run skips the checks.
            if not store.is_checked(extractor):
                require(extractor, name=submission.name, report=report)
                store.mark_checked(extractor)
        except UserError as error:
            raise UserError(f"Submission {submission.name} ({submission.path}): {error}") from error
        measured = cost(submission, device, protocol.precision)
        seconds = time.perf_counter() - start
        return cls(submission, extractor, store, measured, protocol, home, limit, seconds, report)

    def run(self, manifest: Manifest, tracks: Sequence[str]) -> Iterator[Outcome]:
        """Evaluate one task in every track. One pass over the audio serves all tracks."""
        clock = Clock({"load": self.load_seconds})
        where = f"{self.submission.name} · {manifest.task.name}"
        with clock.phase("features"):
            features = self.store.extract(
                self.extractor,
                manifest,
                frames=needs_frames(tracks),
                on_progress=lambda progress: self.report(f"{where}: audio", progress.done, progress.total),
            )
        for track in tracks:
            record_id = identity(self.submission, features, track, self.protocol, self.limit)
            self.home.locks.mkdir(parents=True, exist_ok=True)
            # A second process with the same home waits here, and then finds the record.
            with FileLock(self.home.locks / f"{record_id}.lock"):
                # An imported record is no reason not to measure.
                present = made_here(self.home.records, record_id)
                if present is None:
                    with _enough_memory(manifest):
                        stored = self._measure(features, track, record_id, Clock(dict(clock.seconds)))
                else:
                    stored = with_todays_facts(present, self.submission, self.extractor.model)
            yield publish(stored, self.home, reused=present is not None)

    def _measure(self, features: Features, track: str, record_id: str, clock: Clock) -> StoredRecord:
        """Search and select on validation, then read the test split once."""
        where = f"{self.submission.name} · {features.manifest.task.name} · {track}"
        trainer = Trainer(features, track, self.extractor.device, self.protocol)

        def train(rates: list[float], begin: float, end: float) -> list[Tried]:
            # This batch of rates is the part from ``begin`` to ``end`` of the whole search.
            def on_epoch(done: int, total: int) -> None:
                self.report(f"{where}: probes", begin + (end - begin) * done / total, 1)

            return trainer.rates(rates, on_epoch)

        with clock.phase("search"):
            study = f"{where} · {record_id}"
            trials = search(train, self.protocol, storage=self.home.optuna_storage, study_name=study)
        choice = select(trials)
        # The selection is complete: only now may the test split be read.
        with clock.phase("test"):
            self.report(f"{where}: test", 0, 1)
            logits, epochs = trainer.test(choice)
            curve = trainer.curve([best_of_layer(trials, layer) for layer in range(len(trials[0].valid))])
            reference = trainer.reference(choice.layer)
        with clock.phase("interval"):
            predictions = predicted_scores(features, logits)
            scores = metrics_on_test(trainer.metric, predictions, self.protocol)
        stored = store_record(
            self.home.records,
            record_id,
            submission=self.submission,
            extractor=self.extractor,
            features=features,
            track=track,
            protocol=self.protocol,
            limit=self.limit,
            measured=Measured(trials, choice, epochs, curve, reference, predictions, scores),
            cost=self.cost,
            seconds=clock.seconds,
        )
        # It is measured here now. A note that it was imported is no longer true.
        imported_path(stored.path).unlink(missing_ok=True)
        return stored

    def note_failures(self, task: str, tracks: Sequence[str], kind: FailureKind, reason: str) -> None:
        """Store why there is no result, for the empty cells of the board."""
        for track in tracks:
            publish_failure(
                self.home,
                submission=self.submission.name,
                weights_sha256=self.extractor.model.weights_sha256,
                task=task,
                track=track,
                protocol=self.protocol.name,
                limit=self.limit,
                kind=kind,
                reason=reason,
            )
