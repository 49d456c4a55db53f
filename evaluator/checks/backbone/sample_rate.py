"""Compares the backbone's sample rate with the tasks' frequency bands."""

from collections.abc import Sequence

from evaluator.checks.check import Check, Verdict
from tasks.task import Task


def sample_rate(rate: int, tasks: Sequence[Task]) -> Verdict:
    """Note the share of each task's band above half the backbone's rate, for the tasks that rank the public board."""
    shares = {
        task.name: max(0.0, 1 - rate / task.facts.native_rate)
        for task in tasks
        if task.group in ("core", "auxiliary") and task.facts.native_rate is not None
    }
    sentences = [f"{rate} Hz covers up to {rate / 2000:g} kHz"]
    lost = sorted((-share, name) for name, share in shares.items() if share)
    if lost:
        sentences.append(
            "lost of the recordings' band: " + ", ".join(f"{name} {-100 * share:.0f} %" for share, name in lost)
        )
    whole = sorted(name for name, share in shares.items() if not share)
    if whole:
        sentences.append(f"nothing lost: {', '.join(whole)}")
    return "note", "; ".join(sentences)


CHECK = Check(
    "never: notes the share of each task's band above half the model's rate",
    lambda subject: sample_rate(subject.rate, subject.tasks),
    order=110,
)
