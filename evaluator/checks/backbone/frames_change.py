"""Checks that frames change with the sound."""

from evaluator.checks.check import Check, Verdict
from evaluator.checks.sounds import changing
from evaluator.checks.subject import FRAMES_APART, Subject


def frames_change(subject: Subject) -> Verdict:
    """Check that the frames of at least one layer change with the sound. A layer may repeat one token per clip."""
    sound = changing(subject.rate, subject.model.min_samples)
    rows = {index: layer.frames for index, layer in enumerate(subject.alone(sound)) if layer.count > 1}
    if not rows:
        return "note", "no layer has several frames to compare: where there is one frame, it is the mean over frames"
    still = [
        index
        for index, frames in rows.items()
        if float((frames - frames[:1]).abs().max()) <= FRAMES_APART * float(frames.abs().mean())
    ]
    if not still:
        return "pass", "frames change with the sound"
    if len(still) < len(rows):
        return "note", f"frames are the same over time in {subject.listed(still)}: they are their mean there"
    return "fail", (
        f"No layer's frames change over time for {sound.name}: return frames as they are before they are averaged,"
        " or one frame where there is only one."
    )


CHECK = Check(
    "no layer's frames follow a sound that changes",
    frames_change,
    order=70,
)
