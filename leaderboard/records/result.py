"""The fields of a record that a board needs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self, TypedDict

from leaderboard.records.overlap import PretrainingData, pretraining_data, short
from leaderboard.records.record import Record, Tracking, file_stem
from tasks.task import Group, Metric

Value = int | float | str | bool | None
"""A value of a column of the board."""

# Between the parts of a list, which the database and files have as one text.
_BETWEEN = "; "


def joined(parts: Iterable[object]) -> str:
    """A list as one value, as the database and files have it."""
    return _BETWEEN.join(map(str, parts))


class SubmissionFacts(TypedDict):
    """The fields of `Result` that a submission states about itself. They have no columns in the database."""

    pretraining: tuple[PretrainingData, ...]
    remote_code: bool
    family: str
    licence: str


@dataclass(frozen=True, slots=True)
class Result:
    """The fields of one record that the board needs; see `Record` for the meaning of each field.

    Scores are in 0..1, ``last_layer`` is the highest index of a layer, ``created`` is in UTC, ``run`` is None until
    MLflow has the record, ``confirmed`` is when it was last submitted. For ``pretraining``, ``remote_code``, ``family``
    and ``licence`` see `submission_facts`. ``stored`` has, by key, what the columns of the board store of each record;
    a result of `Result.of` alone has none of it.
    """

    record_id: str
    created: datetime
    protocol: str
    limit: int | None
    track: str
    submission: str
    weights_sha256: str
    task: str
    group: Group
    metric: Metric
    split_hash: str
    test: float
    test_std: float
    ci_low: float
    ci_high: float
    valid: float
    best_layer: int
    best_layer_name: str
    last_layer: int
    parameters: int
    vram_bytes: int | None
    vram_reason: str
    device: str
    predictions_file: str
    predictions_sha256: str
    pretraining: tuple[PretrainingData, ...] = ()
    remote_code: bool = False
    family: str = ""
    licence: str = ""
    run: Tracking | None = None
    confirmed: datetime | None = None
    stored: Mapping[str, Value] = field(default_factory=dict, hash=False)

    @property
    def stem(self) -> str:
        """The file name without suffix of the record and the files beside it, as `Record.stem`."""
        return file_stem(self.submission, self.task, self.track, self.record_id)

    @property
    def alike(self) -> list[int] | None:
        """The layers that cannot be told apart from the best one; None if the record does not state them."""
        stored = self.stored.get("layers_alike")
        return [int(layer) for layer in stored.split(_BETWEEN)] if isinstance(stored, str) else None

    @property
    def flags(self) -> list[str]:
        """The flags of the record that the suite knows."""
        stored = self.stored.get("flags")
        return stored.split(_BETWEEN) if isinstance(stored, str) and stored else []

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains of the pretraining data, each once.

        Only "none" if the submission states that there was none; empty if it states nothing.
        """
        return tuple(dict.fromkeys(entry.domain for entry in self.pretraining if entry.domain))

    @classmethod
    def of(cls, record: Record, run: Tracking | None = None, stored: Mapping[str, Value] | None = None) -> Self:
        """The board's view of a record."""
        created = record.created if record.created.tzinfo else record.created.replace(tzinfo=UTC)
        return cls(
            record_id=record.id,
            created=created.astimezone(UTC),
            protocol=record.protocol,
            limit=record.limit,
            track=record.track,
            submission=record.submission.name,
            weights_sha256=record.submission.weights_sha256,
            task=record.task.name,
            group=record.task.group,
            metric=record.metric,
            split_hash=record.task.split_hash,
            test=record.test,
            test_std=record.test_std,
            ci_low=record.ci_low,
            ci_high=record.ci_high,
            valid=record.valid,
            best_layer=record.best_layer,
            best_layer_name=record.best_layer_name,
            last_layer=max((layer.index for layer in record.layers), default=0),
            parameters=record.submission.parameters,
            vram_bytes=record.efficiency.vram_bytes,
            vram_reason=record.efficiency.reason,
            device=record.efficiency.device,
            predictions_file=record.predictions.file,
            predictions_sha256=record.predictions.sha256,
            **submission_facts(record.submission.model_dump()),
            run=run,
            confirmed=created.astimezone(UTC),
            stored=stored or {},
        )


def submission_facts(submission: Mapping[str, Any]) -> SubmissionFacts:
    """The facts that the board shows from a record's ``submission``. Its entries are untrusted and may have any form.

    ``remote_code`` is true if code from the checkpoint was run (``trust_remote_code = true``); ``family`` and
    ``licence`` are "" if they are not stated.
    """
    about = submission["about"]
    return {
        "pretraining": pretraining_data(about),
        "remote_code": submission["arguments"].get("trust_remote_code") is True,
        "family": short(about.get("family")),
        "licence": short(about.get("licence")),
    }
