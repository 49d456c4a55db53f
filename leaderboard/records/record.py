"""The record of a result: everything that one evaluation measured, and everything that a board may show."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from leaderboard.records.protocol import HIGHEST_RATE, LONGEST_NAME, LOWEST_RATE
from tasks.task import Group, Kind, Metric

SCHEMA_VERSION: Literal[1] = 1

Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
# The upper limit is that of a database column.
Count = Annotated[int, Field(ge=0, lt=2**63)]
# The other bounds are far beyond any model, machine or data set, and small enough that no page breaks.
Rate = Annotated[float, Field(ge=LOWEST_RATE, le=HIGHEST_RATE, allow_inf_nan=False)]
Hertz = Annotated[int, Field(ge=1, le=10**7)]
Epoch = Annotated[int, Field(ge=1, le=10**6)]
Items = Annotated[int, Field(ge=1, le=10**9)]
Bytes = Annotated[int, Field(ge=0, le=10**14)]
Duration = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SubmissionInfo(_Model):
    """The measured submission. ``about`` is the table of that name in the submission file, for readers."""

    name: Name
    loader: str
    arguments: dict[str, object]
    about: dict[str, object]
    weights_sha256: Sha256
    parameters: Annotated[int, Field(ge=0, le=10**13)]
    sample_rate: Hertz


class TaskInfo(_Model):
    """The measured task. ``split_hash`` is the sha256 of the ids and labels of each split; rates are in Hz."""

    name: Name
    kind: Kind
    group: Group
    metric: Metric
    labels: list[str]
    split_hash: Sha256
    native_rates: list[Hertz]
    n_train: Items
    n_valid: Items
    n_test: Items


class HeadInfo(_Model):
    """The head of a track, as it was declared when it was trained: one line for readers, and its VERSION."""

    help: Annotated[str, Field(max_length=200)]
    version: Count


class LayerScore(_Model):
    """One point of the diagnostic curve: the layer's best probe on validation, and that probe on test."""

    index: Count
    name: str
    width: Annotated[int, Field(ge=1, le=10**8)]
    valid: Fraction
    test: Fraction
    lr: Rate
    epoch: Epoch


class Trial(_Model):
    """One learning rate of the search.

    Per layer: the validation metric, its epoch (from 1), and the validation loss after the last epoch, which breaks
    ties. ``loss`` is None under protocols without that rule. ``looks`` is the number of scores on validation that the
    trial chose from; None in records of older versions.
    """

    number: Count
    lr: Rate
    valid: list[Fraction]
    epoch: list[Count]
    loss: list[Annotated[float, Field(ge=0, allow_inf_nan=False)]] | None = None
    looks: Count | None = None


class Selection(_Model):
    """How far the choice on validation can be trusted.

    Attributes:
        looks: number of scores on validation that the choice was made from.
        recordings: number of recordings of the validation split.
        optimism: the chosen probe's metric on validation minus the result on test.
        alike: the layers that cannot be told apart from the chosen one, which is among them: the 95 % interval of the
            difference on validation, a paired bootstrap over recordings, contains 0.
    """

    looks: Count
    recordings: Items
    optimism: Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]
    alike: Annotated[list[Count], Field(min_length=1, max_length=10_000)]


WarningKind = Literal["cancelling", "clipped", "cropped", "cut", "shared", "silent"]
"""What may be odd about sounds; `leaderboard.records.flags` has the sentence of each kind."""


class DataWarning(_Model):
    """How many clips or windows of each split have one oddity, and an example: an item's id, or two with one sound."""

    kind: WarningKind
    train: Count
    valid: Count
    test: Count
    example: Annotated[str, Field(max_length=1_000)]


class Reference(_Model):
    """Logistic regression on the mean over frames of the chosen layer, trained to convergence.

    ``strength`` is the inverse strength of its L2 penalty, chosen on validation.
    """

    strength: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    valid: Fraction
    test: Fraction


class Predictions(_Model):
    """Name of the file with the test scores, beside the record, and its sha256."""

    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
    sha256: Sha256


class Efficiency(_Model):
    """Cost of one 10-s clip at batch 1. A value that could not be measured is None, and ``reason`` states why.

    Bytes are peak allocated CUDA memory, weights included; seconds are wall time of one forward pass.
    """

    device: str
    vram_bytes: Bytes | None = None
    weights_bytes: Bytes | None = None
    seconds: Duration | None = None
    reason: str = ""


class Environment(_Model):
    """Code version, packages, machine and device of a measurement."""

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

    ``id`` is a hash: the same weights, data, code and settings give the same id. ``protocol`` contains every deviation
    from the standard settings, so that results with one protocol can be compared. ``test`` is the mean of
    ``test_seeds``; ``ci_low`` and ``ci_high`` are its 95 % interval. ``head``, ``selection``, ``reference`` and
    ``data_warnings`` are None in records of older versions; the last is also None if no sound was decoded.
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
    test_seeds: Annotated[list[Fraction], Field(min_length=1)]
    ci_low: Fraction
    ci_high: Fraction
    secondary: dict[str, Fraction]
    best_layer: Count
    best_layer_name: str
    lr: Rate
    epoch: Epoch
    flags: list[str]
    selection: Selection | None = None
    reference: Reference | None = None
    data_warnings: Annotated[list[DataWarning], Field(max_length=100)] | None = None
    layers: Annotated[list[LayerScore], Field(min_length=1, max_length=10_000)]
    trials: Annotated[list[Trial], Field(min_length=1, max_length=100_000)]
    epochs: Annotated[list[Fraction], Field(max_length=10**6)]
    predictions: Predictions
    efficiency: Efficiency
    audio: dict[str, str]
    seconds: dict[str, Duration]
    environment: Environment

    @property
    def stem(self) -> str:
        """File name without suffix, readable and unique."""
        return file_stem(self.submission.name, self.task.name, self.track, self.id)

    @property
    def alike(self) -> list[int] | None:
        """`Selection.alike`; None in records of older versions."""
        return None if self.selection is None else self.selection.alike


class Tracking(_Model):
    """The MLflow run of a record. It is stored beside the record, so that the record itself does not change."""

    uri: str
    experiment_id: str
    run_id: str


class Imported(_Model):
    """The import of a record that was made elsewhere: when, by which user, and from which directory."""

    at: AwareDatetime
    by: str
    directory: str


class Confirmed(_Model):
    """When an existing record was submitted again and so became the current one."""

    at: AwareDatetime


def file_stem(submission: str, task: str, track: str, record_id: str) -> str:
    """The file name of a record without suffix."""
    return f"{submission}.{task}.{track}.{record_id}"
