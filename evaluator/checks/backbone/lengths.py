"""Checks short and long clips."""

import time

from evaluator.checks.check import Check, Verdict
from evaluator.checks.hops import constant_hop, frames
from evaluator.checks.sounds import ladder, noise
from evaluator.checks.subject import Subject
from tasks.support.errors import UserError

_SHORTEST_SECONDS, _LONG_SECONDS = 0.1, 30.0


def lengths(subject: Subject) -> Verdict:
    """Encode clips of 0.1 s, of the stated minimum, and of 30 s."""
    smallest, rate = subject.model.min_samples, subject.rate
    tenth, most = round(_SHORTEST_SECONDS * rate), round(_LONG_SECONDS * rate)
    worked, wrong = [], []
    for samples in (smallest, tenth) if 1 < smallest < tenth else (tenth,):
        length = f"{samples / rate:.2g} s"
        try:
            subject.alone(noise(f"noise of {length}", samples, 1))
        except UserError as error:
            wrong.append(f"{length}: {error} Set min_samples to the smallest number of samples that encode accepts.")
        if samples == smallest:
            length += " (the stated minimum)"
        elif samples < smallest:
            length += f" (padded to the stated minimum, {smallest / rate:.2g} s)"
        worked.append(length)
    long = noise(f"noise of {_LONG_SECONDS:.0f} s", most, 2)
    start = time.perf_counter()
    try:
        subject.alone(long)
        worked.append(f"{_LONG_SECONDS:.0f} s (in {time.perf_counter() - start:.1f} s)")
    except UserError as error:
        wrong.append(f"{_LONG_SECONDS:.0f} s: {error} Cut long clips in encode, and join their frames.")
    if wrong:
        return "fail", " ".join(wrong)
    ladders = ladder(rate, smallest, False)
    for block, samples_of, counts in frames(subject, [*ladders, long]):
        if constant_hop(samples_of[:-1], counts[:-1]) is not None and constant_hop(samples_of, counts) is None:
            return "note", (
                f"clips of {', '.join(worked)} work, but {subject.layer(block.layers[0])} has {counts[-1]} frames for"
                f" {_LONG_SECONDS:.0f} s and {counts[-2]} for {samples_of[-2] / rate:.2f} s: it may encode only a part"
            )
    return "pass", f"clips of {', '.join(worked)} work"


CHECK = Check(
    "clips of 0.1 s, of the stated minimum or of 30 s do not work",
    lengths,
    order=80,
)
