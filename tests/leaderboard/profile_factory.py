"""Profiles with chosen points, for the board's tests."""

from datetime import UTC, datetime
from typing import Any

from leaderboard.records.profile import Point, Profile
from leaderboard.records.record import Environment

H200, GIB = "NVIDIA H200", 2**30


def measured(seconds: float, peak: int, *, latency: float = 0.1, weights: int = 2**28, gpu: bool = True) -> Point:
    return Point(
        seconds=seconds,
        outcome="measured",
        weights_bytes=weights,
        peak_bytes=peak,
        reserved_bytes=peak + 2**21 if gpu else None,
        latency_seconds=latency,
        latency_p90_seconds=1.25 * latency,
        runs=10,
        multiply_adds=int(seconds * 7e9),
        counted="torch's counter",
        attention="sdpa: memory-efficient",
    )


def too_large(seconds: float, *, inferred: bool = False) -> Point:
    return Point(seconds=seconds, outcome="out of memory", detail="CUDA out of memory.", inferred=inferred)


def make_profile(
    submission: str = "aves",
    points: tuple[Point, ...] = (measured(10, GIB),),
    *,
    created: datetime = datetime(2026, 3, 1, 12, tzinfo=UTC),
    **changes: Any,
) -> Profile:
    """A valid profile on a GPU; ``changes`` are its other fields."""
    fields: dict[str, Any] = {
        "id": "0" * 16,
        "loader": "torchaudio",
        "arguments": {"weights": "random"},
        "weights_sha256": "a" * 64,
        "parameters": 90_000_000,
        "sample_rate": 16_000,
        "device": H200,
        "kind": "cuda",
        "precision": "fp32",
        "batch": 1,
        "attention": "sdpa",
        "available_bytes": 140 * GIB,
        **changes,
    }
    environment = Environment(
        git_commit=None,
        git_dirty=None,
        packages={"torch": "2.11.0"},
        python="3.12.1",
        platform="Linux",
        device=fields["device"],
        driver=None,
        precision=fields["precision"],
        threads=1,
    )
    return Profile(submission=submission, created=created, points=points, environment=environment, **fields)


def profiles_of_a_board() -> list[Profile]:
    """Two models on a GPU, one of which does not fit at 600 s; one of them in bf16 too, and one on a CPU."""
    lengths = (1, 5, 10, 30, 60, 120, 300)
    grows = tuple(measured(s, int(0.4 * GIB + s * s * 1.2e6), latency=0.004 + s * s / 1e4) for s in lengths)
    linear = tuple(measured(s, int(0.4 * GIB + s * 4.1e7), latency=0.006 + s / 900) for s in (*lengths, 600, 1000))
    small = tuple(measured(s, 2**20 * (3 + 3 * s), latency=s / 200, weights=3 * 2**20, gpu=False) for s in (1, 5, 10))
    return [
        make_profile("aves", (*grows, too_large(600), too_large(1000, inferred=True)), id="1" * 16),
        make_profile("random-biomamba", linear, id="2" * 16, attention="Mamba-2 by mamba_ssm"),
        make_profile("aves", grows[:5], id="3" * 16, precision="bf16"),
        make_profile("random-hubert-small", small, id="4" * 16, kind="cpu", device="cpu (Example)"),
    ]
