"""The profile of a submission, which is its cost over clip length, and its file."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from leaderboard.records.record import Count, Environment, Name, Sha256
from tasks.support.errors import UserError
from tasks.support.files import write_atomically
from tasks.task import explain

SCHEMA_VERSION: Literal[1] = 1
BOARD_SECONDS = 10.0
"""The clip length of the board's VRAM column."""

Kind = Literal["cuda", "cpu"]
Outcome = Literal["measured", "out of memory", "timeout", "failed"]
# Suffix of the note of a profile's MLflow run, beside the profile.
_NOTE = ".mlflow.json"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Point(_Model):
    """The cost at one clip length. A value that was not measured is None, and ``detail`` gives the reason.

    Bytes are peaks of one forward pass and include the weights. On a GPU ``peak_bytes`` is the memory that torch's
    allocator gave to tensors, and ``reserved_bytes`` the memory that it took from the device. On a CPU ``peak_bytes``
    is the weights and the growth of the process's resident memory. ``latency_seconds`` is the median of ``runs`` passes
    over the batch, ``latency_p90_seconds`` their 90th percentile. ``inferred`` is true if the length was not tried,
    because a shorter clip did not fit or timed out.
    """

    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    outcome: Outcome
    detail: str = ""
    inferred: bool = False
    weights_bytes: Count | None = None
    peak_bytes: Count | None = None
    reserved_bytes: Count | None = None
    latency_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    latency_p90_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    runs: Count = 0
    multiply_adds: Count | None = None
    counted: str = ""
    attention: str = ""

    @property
    def activation_bytes(self) -> int | None:
        """The peak without the weights."""
        if self.peak_bytes is None or self.weights_bytes is None:
            return None
        return self.peak_bytes - self.weights_bytes

    @model_validator(mode="after")
    def _measured_points_have_a_time(self) -> Self:
        if (self.outcome == "measured") != (self.latency_seconds is not None):
            raise ValueError("a point has a latency exactly when it was measured")
        return self


class Profile(_Model):
    """One submission on one device at one precision and batch size, over clip lengths.

    ``id`` is a hash: the same weights, code, versions and settings give the same id. Points may be added later;
    ``created`` is the time of the last one. ``kind`` states whether bytes are GPU or host memory, which are never
    compared. ``available_bytes`` is the memory that a process could allocate when the first point was measured.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    created: AwareDatetime
    submission: Name
    loader: str
    arguments: dict[str, object]
    weights_sha256: Sha256
    parameters: Count
    sample_rate: Annotated[int, Field(gt=0)]
    device: Name
    kind: Kind
    precision: Literal["fp32", "bf16"]
    batch: Annotated[int, Field(gt=0)]
    attention: Name
    available_bytes: Count | None
    points: tuple[Point, ...]
    environment: Environment

    @model_validator(mode="after")
    def _one_point_a_length_in_order(self) -> Self:
        lengths = [point.seconds for point in self.points]
        if lengths != sorted(set(lengths)):
            raise ValueError("points: one a clip length, the shortest first")
        return self

    @property
    def stem(self) -> str:
        """File name without suffix, readable and unique."""
        return f"{self.submission}.{self.kind}.{self.precision}.batch{self.batch}.{self.id}"

    def at(self, seconds: float) -> Point | None:
        """The point of a clip length, or None."""
        return next((point for point in self.points if point.seconds == seconds), None)

    def throughput(self, point: Point) -> float | None:
        """Seconds of audio encoded per second."""
        return None if point.latency_seconds is None else self.batch * point.seconds / point.latency_seconds


class Vram(NamedTuple):
    """A value of the board's VRAM column: bytes, or None with a reason; ``device`` is the measured device."""

    bytes: int | None
    reason: str
    device: str


def current(profiles: Iterable[Profile]) -> list[Profile]:
    """The newest profile per submission, weights, device, precision, batch and attention."""
    newest: dict[tuple[object, ...], Profile] = {}
    for profile in sorted(profiles, key=lambda profile: (profile.created, profile.id)):
        newest[
            profile.submission,
            profile.weights_sha256,
            profile.kind,
            profile.device,
            profile.precision,
            profile.batch,
            profile.attention,
        ] = profile
    return list(newest.values())


def vram_at_10_seconds(profiles: Iterable[Profile]) -> dict[tuple[str, str], Vram]:
    """VRAM of one 10-s clip at batch 1 in float32, by submission and weights, from the newest profile with that point.

    Host memory does not count. A clip that did not fit has a reason and no bytes.
    """
    vram: dict[tuple[str, str], Vram] = {}
    for profile in sorted(current(profiles), key=lambda profile: (profile.created, profile.id)):
        point = profile.at(BOARD_SECONDS)
        if profile.kind != "cuda" or profile.precision != "fp32" or profile.batch != 1 or point is None:
            continue
        vram[profile.submission, profile.weights_sha256] = Vram(point.peak_bytes, spell(profile, point), profile.device)
    return vram


def spell(profile: Profile, point: Point) -> str:
    """Why a point has no bytes, such as "> 139.8 GiB at 600 s (out of memory)"; empty if it has bytes."""
    if point.outcome == "measured":
        return "" if point.peak_bytes is not None else point.detail
    at = f"at {point.seconds:g} s"
    if point.outcome == "out of memory":
        limit = "" if profile.available_bytes is None else f"> {profile.available_bytes / 2**30:.1f} GiB "
        return f"{limit}{at} (out of memory)"
    return f"{point.outcome} {at}: {point.detail}"


def profile_path(directory: Path, profile: Profile) -> Path:
    """The path of ``profile`` in a directory of profiles."""
    return directory / f"{profile.stem}.json"


def write_profile(directory: Path, profile: Profile) -> Path:
    """Write the profile as JSON, atomically."""
    path = profile_path(directory, profile)
    write_atomically(path, profile.model_dump_json(indent=2))
    return path


def read_profile(path: Path) -> Profile:
    """Read one profile.

    Raises:
        UserError: the file is no profile of this schema version.
    """
    try:
        return Profile.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise UserError(
            f"{path} is not a profile of schema version {SCHEMA_VERSION} ({explain(error)}): move it out of the way."
        ) from error


def profile_paths(directory: Path) -> Iterator[Path]:
    """All profile files of a directory, sorted by name."""
    return (path for path in sorted(directory.glob("*.json")) if not path.name.endswith(_NOTE))


def note_path(profile_file: Path) -> Path:
    """The path of the note of a profile's MLflow run."""
    return profile_file.with_suffix(_NOTE)


def merge(known: Sequence[Point], new: Iterable[Point]) -> tuple[Point, ...]:
    """The points of both, sorted by clip length. A new point replaces a known one of the same length."""
    points = {point.seconds: point for point in (*known, *new)}
    return tuple(points[seconds] for seconds in sorted(points))
