"""What the backbone's sample rate leaves out."""

from collections.abc import Sequence

from evaluator.checks.check import Check, Verdict
from tasks.task import Task


def sample_rate(rate: int, tasks: Sequence[Task]) -> Verdict:
    """The share of each task's band above half the backbone's rate, for the tasks that rank the public board."""
    shares = {
        task.name: max(0.0, 1 - rate / task.facts.native_rate)
        for task in tasks
        if task.group in ("core", "auxiliary") and task.facts.native_rate is not None
    }
    said = [f"{rate} Hz hears up to {rate / 2000:g} kHz"]
    lost = sorted((-share, name) for name, share in shares.items() if share)
    if lost:
        said.append(
            "lost of the recordings' band: " + ", ".join(f"{name} {-100 * share:.0f} %" for share, name in lost)
        )
    whole = sorted(name for name, share in shares.items() if not share)
    if whole:
        said.append(f"nothing lost: {', '.join(whole)}")
    return "note", "; ".join(said)


CHECK = Check(
    "never: notes which share of each task's band lies above half the model's rate",
    lambda subject: sample_rate(subject.rate, subject.tasks),
    order=110,
)
