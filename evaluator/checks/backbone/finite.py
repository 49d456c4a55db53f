"""Searches for NaN and infinity."""

from evaluator.checks.check import Check, Verdict
from evaluator.checks.sounds import variety
from evaluator.checks.subject import Subject
from tasks.support.errors import UserError


def finite(subject: Subject) -> Verdict:
    """Encode silence, a square wave at full scale, and ordinary sounds."""
    wrong = []
    sounds = variety(subject.rate, subject.model.min_samples, subject.short)
    for sound in sounds:
        try:
            subject.alone(sound)
        except UserError as error:
            wrong.append(str(error))
    if wrong:
        return "fail", (
            f"{' '.join(wrong)} Recordings hold silence and clipping: in encode, limit divisors and the arguments of"
            " logarithms from below."
        )
    return "pass", "no NaN or infinity for " + ", ".join(sound.name for sound in sounds)


CHECK = Check(
    "silence, a full-scale square wave or ordinary sounds give NaN or infinity",
    finite,
    order=40,
    in_short_form=True,
)
