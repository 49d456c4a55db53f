"""Make the profile of a submission. Each point is stored when it is measured, so that none is measured twice."""

import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from evaluator.backbones import LOADERS
from evaluator.efficiency.curve import walk
from evaluator.efficiency.fresh import NoAnswerError, ask
from evaluator.submission import Submission
from leaderboard.records.profile import Kind, Point, Profile, merge, profile_path, read_profile, write_profile
from leaderboard.records.record import Environment
from tasks.support.errors import UserError

# Seconds to load and describe a model, which may have to be downloaded first.
_DESCRIBE_SECONDS = 3600.0


def profile(
    submission: Submission,
    lengths: Sequence[float],
    directory: Path,
    *,
    device: Kind,
    precision: str = "fp32",
    batch: int = 1,
    timeout: float,
    again: bool = False,
    report: Callable[[float], None] = lambda seconds: None,
) -> Profile:
    """Measure a submission at every length, each in a fresh process. Points in ``directory`` are not measured again.

    When a clip does not fit into memory or times out, longer clips are not tried and get the same outcome.

    Args:
        submission: the submission to profile.
        lengths: seconds of the clips.
        directory: the directory of profiles; the profile is written there after every point.
        device: "cuda" or "cpu".
        precision: "fp32" or "bf16".
        batch: clips per pass.
        timeout: seconds per point.
        again: also measure points again that exist.
        report: receives the next length in seconds.

    Raises:
        UserError: the model cannot be loaded or cannot be run at all.
    """
    current = _start(submission, device, precision, batch)
    path = profile_path(directory, current)
    if path.exists():
        current = current.model_copy(
            update={"points": read_profile(path).points, "created": read_profile(path).created}
        )
    question = {
        "measure": {"submission": str(submission.path)},
        "device": device,
        "precision": precision,
        "batch": batch,
    }
    known = {point.seconds: point.model_dump() for point in current.points}
    for values in walk(question, lengths, known=known, timeout=timeout, again=again, report=report):
        point = Point.model_validate(values)
        if values is not known.get(point.seconds):
            current = current.model_copy(
                update={"points": merge(current.points, [point]), "created": datetime.now(UTC)}
            )
            write_profile(directory, current)
    return current


def _start(submission: Submission, device: Kind, precision: str, batch: int) -> Profile:
    """The profile without points."""
    # Errors in the file are reported here and not by another process.
    submission.check_keys()
    if not LOADERS.get(submission.loader).needs_audio:
        raise UserError(f"Submission {submission.name}: embeddings computed elsewhere have no model to profile.")
    question = {"describe": {"submission": str(submission.path)}, "device": device, "precision": precision}
    try:
        description = ask(question, _DESCRIBE_SECONDS)
    except NoAnswerError as error:
        if error.cause == "user":
            raise UserError(str(error)) from error
        raise UserError(
            f"Submission {submission.name} could not be loaded to be profiled ({error.cause}: {error}): "
            f"`beans check {submission.path}` shows more."
        ) from error
    environment = Environment.model_validate(description["environment"])
    content = {
        "submission": submission.name,
        "arguments": submission.arguments,
        "device": environment.device,
        "driver": environment.driver,
        "packages": {name: environment.packages.get(name) for name in ("torch", "torchaudio", "transformers")},
        # On a GPU the host's threads change nothing that is measured.
        "threads": environment.threads if device == "cpu" else None,
        "precision": precision,
        "batch": batch,
        **{key: description[key] for key in ("weights_sha256", "attention", "versions", "options")},
    }
    return Profile(
        id=hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16],
        created=datetime.now(UTC),
        submission=submission.name,
        loader=submission.loader,
        arguments=submission.arguments,
        weights_sha256=description["weights_sha256"],
        parameters=description["parameters"],
        sample_rate=description["sample_rate"],
        device=environment.device,
        kind=device,
        precision=environment.precision,
        batch=batch,
        attention=description["attention"],
        available_bytes=description["available_bytes"],
        points=(),
        environment=environment,
    )
