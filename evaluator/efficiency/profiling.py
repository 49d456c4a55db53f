"""The profile of a submission: points in fresh processes, kept as they come, so that nothing is measured twice."""

import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from evaluator.backbones import loader
from evaluator.efficiency.curve import walk
from evaluator.efficiency.fresh import NoAnswerError, ask
from evaluator.submission import Submission
from leaderboard.records.profile import Kind, Point, Profile, merge, profile_path, read_profile, write_profile
from leaderboard.records.record import Environment
from tasks.support.errors import UserError

# For loading and describing a model, which may have to be downloaded first.
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
    """Measure a submission at every length, each in a fresh process; what the directory has is not measured again.

    Once a clip does not fit or has no answer in time, longer ones are not tried and end in the same way.

    Args:
        submission: whose model.
        lengths: seconds of the clips.
        directory: where profiles lie; the profile is written there after every point.
        device: "cuda" or "cpu".
        precision: "fp32" or "bf16".
        batch: clips in a pass.
        timeout: seconds for each point.
        again: measure also what is there.
        report: told the length that comes next.

    Raises:
        UserError: the model cannot be loaded or cannot be run at all.
    """
    found = _start(submission, device, precision, batch)
    path = profile_path(directory, found)
    if path.exists():
        found = found.model_copy(update={"points": read_profile(path).points, "created": read_profile(path).created})
    question = {
        "measure": {"submission": str(submission.path)},
        "device": device,
        "precision": precision,
        "batch": batch,
    }
    known = {point.seconds: point.model_dump() for point in found.points}
    for values in walk(question, lengths, known=known, timeout=timeout, again=again, report=report):
        point = Point.model_validate(values)
        if values is not known.get(point.seconds):
            found = found.model_copy(update={"points": merge(found.points, [point]), "created": datetime.now(UTC)})
            write_profile(directory, found)
    return found


def _start(submission: Submission, device: Kind, precision: str, batch: int) -> Profile:
    """The profile without points."""
    # What is wrong in the file is found here and not in another process.
    submission.check_keys()
    if not loader(submission.loader).hears:
        raise UserError(f"Submission {submission.name}: embeddings computed elsewhere have no model to profile.")
    question = {"describe": {"submission": str(submission.path)}, "device": device, "precision": precision}
    try:
        said = ask(question, _DESCRIBE_SECONDS)
    except NoAnswerError as error:
        if error.cause == "user":
            raise UserError(str(error)) from error
        raise UserError(
            f"Submission {submission.name} could not be loaded to be profiled ({error.cause}: {error}): "
            f"`beans check {submission.path}` looks closer."
        ) from error
    environment = Environment.model_validate(said["environment"])
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
        **{key: said[key] for key in ("weights_sha256", "attention", "versions", "options")},
    }
    return Profile(
        id=hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16],
        created=datetime.now(UTC),
        submission=submission.name,
        loader=submission.loader,
        arguments=submission.arguments,
        weights_sha256=said["weights_sha256"],
        parameters=said["parameters"],
        sample_rate=said["sample_rate"],
        device=environment.device,
        kind=device,
        precision=environment.precision,
        batch=batch,
        attention=said["attention"],
        available_bytes=said["available_bytes"],
        points=(),
        environment=environment,
    )
