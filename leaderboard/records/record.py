"""The result record: everything one evaluation found, and all that may appear on the board."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from leaderboard.records.protocol import LONGEST_NAME
from tasks.task import Group, Kind, Metric

SCHEMA_VERSION: Literal[1] = 1

Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
# As large as a database column holds.
Count = Annotated[int, Field(ge=0, lt=2**63)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SubmissionInfo(_Model):
    """Who was measured. ``about`` is the submission file's table of that name, for readers."""

    name: Name
    loader: str
    arguments: dict[str, object]
    about: dict[str, object]
    weights_sha256: Sha256
    parameters: Count
    sample_rate: Annotated[int, Field(gt=0)]


class TaskInfo(_Model):
    """What was measured. ``split_hash`` is sha256 over the ids and labels of each split; rates are in Hz."""

    name: Name
    kind: Kind
    group: Group
    metric: Metric
    labels: list[str]
    split_hash: Sha256
    native_rates: list[int]
    n_train: Count
    n_valid: Count
    n_test: Count


class HeadInfo(_Model):
    """The head of a track, as it was declared when it was trained: one line for readers, and its VERSION."""

    help: Annotated[str, Field(max_length=200)]
    version: Count


class LayerScore(_Model):
    """One point of the diagnostic curve: the layer's best probe on validation, and that probe on test."""

    index: Count
    name: str
    width: Count
    valid: Fraction
    test: Fraction
    lr: Annotated[float, Field(gt=0)]
    epoch: Count


class Trial(_Model):
    """One learning rate. Per layer: the best validation metric and the epoch (from 1) that reached it."""

    number: Count
    lr: Annotated[float, Field(gt=0)]
    valid: list[Fraction]
    epoch: list[Count]


class Predictions(_Model):
    """Where the test scores lie beside the record, and the sha256 of that file."""

    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
    sha256: Sha256


class Efficiency(_Model):
    """Cost of one 10-s clip at batch 1. A figure that could not be measured is None, and ``reason`` says why.

    Bytes are peak allocated CUDA memory, weights included; seconds are wall time of one forward pass.
    """

    device: str
    vram_bytes: Count | None = None
    weights_bytes: Count | None = None
    seconds: Finite | None = None
    reason: str = ""


class Environment(_Model):
    """Where and with what it was measured."""

    git_commit: str | None
    git_dirty: bool | None
    packages: dict[str, str]
    python: str
    platform: str
    device: str
    driver: str | None
    precision: str
    threads: Count


class Record(_Model):
    """One submission on one task in one track under one protocol.

    ``id`` is content-addressed: the same weights, data, code and settings give the same id. ``protocol`` carries any
    deviation from the standard settings, so results that cannot be compared never share it. ``test`` is the mean over
    ``seeds``, ``ci_low`` and ``ci_high`` bound it at 95 %. ``head`` is None in records of older versions.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    created: datetime
    protocol: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
    limit: Annotated[int, Field(gt=0)] | None
    track: Name
    head: HeadInfo | None = None
    submission: SubmissionInfo
    task: TaskInfo
    metric: Metric
    valid: Fraction
    test: Fraction
    test_std: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    test_seeds: list[Fraction]
    ci_low: Fraction
    ci_high: Fraction
    secondary: dict[str, Fraction]
    best_layer: Count
    best_layer_name: str
    lr: Annotated[float, Field(gt=0)]
    epoch: Count
    flags: list[str]
    layers: list[LayerScore]
    trials: list[Trial]
    epochs: list[Fraction]
    predictions: Predictions
    efficiency: Efficiency
    audio: dict[str, str]
    seconds: dict[str, Finite]
    environment: Environment

    @property
    def stem(self) -> str:
        """File name without suffix, readable and unique."""
        return file_stem(self.submission.name, self.task.name, self.track, self.id)


class Tracking(_Model):
    """Where a record was logged in MLflow. Kept beside the record, which itself never changes."""

    uri: str
    experiment_id: str
    run_id: str


class Imported(_Model):
    """That a record came from somebody else: who took it in, when, and from which directory."""

    at: AwareDatetime
    by: str
    directory: str


class Confirmed(_Model):
    """When a record that was there already was submitted again, and so became the current one."""

    at: AwareDatetime


def file_stem(submission: str, task: str, track: str, record_id: str) -> str:
    """How the files of a record are called before their suffixes."""
    return f"{submission}.{task}.{track}.{record_id}"
