"""The fields of a record that a board is made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self, TypedDict

from leaderboard.records.overlap import Heard, heard, short
from leaderboard.records.record import Record, Tracking, file_stem
from tasks.task import Group, Metric


class Stated(TypedDict):
    """The fields of `Result` that no column of the database holds."""

    pretraining: tuple[Heard, ...]
    remote_code: bool
    family: str
    licence: str


@dataclass(frozen=True, slots=True)
class Result:
    """What the board needs of one record; see `Record` for the meaning of each field.

    Scores are in 0..1, ``last_layer`` is the highest index of a layer, ``created`` is in UTC, ``run`` is None until
    MLflow has the record, ``confirmed`` is when it was last submitted. ``pretraining``, ``remote_code``, ``family`` and
    ``licence`` are what the submission says of itself, see `stated`.
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
    pretraining: tuple[Heard, ...] = ()
    remote_code: bool = False
    family: str = ""
    licence: str = ""
    run: Tracking | None = None
    confirmed: datetime | None = None

    @property
    def stem(self) -> str:
        """How the files beside the record are called before their suffixes, as `Record.stem`."""
        return file_stem(self.submission, self.task, self.track, self.record_id)

    @property
    def domains(self) -> tuple[str, ...]:
        """What kinds of sound the submission has heard, each once; "none" where it has heard nothing, and no entry
        where nothing is stated."""
        return tuple(dict.fromkeys(entry.domain for entry in self.pretraining if entry.domain))

    @classmethod
    def of(cls, record: Record, run: Tracking | None = None) -> Self:
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
            **stated(record.submission.model_dump()),
            run=run,
            confirmed=created.astimezone(UTC),
        )


def stated(submission: Mapping[str, Any]) -> Stated:
    """What a record's ``submission`` says of itself and the board shows; records are anybody's, so nothing is assumed.

    ``remote_code`` is whether code that came with the checkpoint was run (``trust_remote_code = true``); ``family`` and
    ``licence`` are "" where they are not stated.
    """
    about = submission["about"]
    return {
        "pretraining": heard(about),
        "remote_code": submission["arguments"].get("trust_remote_code") is True,
        "family": short(about.get("family")),
        "licence": short(about.get("licence")),
    }
