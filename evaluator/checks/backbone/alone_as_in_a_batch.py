"""Compares a clip that is encoded alone with the same clip in a batch."""

from evaluator.checks.check import Check, Verdict
from evaluator.checks.sounds import equals, ladder
from evaluator.checks.subject import FRAMES_APART, MEANS_APART, Subject, apart, percent


def alone(subject: Subject) -> Verdict:
    """Compare a clip that is encoded alone with the same clip in a batch, formed as in real runs."""
    if subject.steady is False:
        return "note", "not compared, because two passes of one and the same clip differ"
    exact = subject.model.exact_masking
    sounds = (ladder if exact else equals)(subject.rate, subject.model.min_samples, subject.short)
    by_itself = [subject.alone(sound) for sound in sounds]
    together = subject.encode(sounds)
    if subject.passes >= len(sounds):
        seconds = len(sounds[-1].waveform) / subject.rate
        return "note", f"clips of {seconds:.1f} s share no pass on {subject.extractor.device.type}: nothing to compare"
    failed, size, index, name = max(
        (means > MEANS_APART or frames > FRAMES_APART, max(means, frames), index, sound.name)
        for sound, one, other in zip(sounds, by_itself, together, strict=True)
        for index, (means, frames) in enumerate(map(apart, one, other))
    )
    if not failed:
        which = "unequal length share a batch (exact_masking)" if exact else "equal length share a batch"
        return (
            "pass",
            f"clips of {which}, and have the features they have alone to {percent(MEANS_APART)} of a layer's scale",
        )
    where = f"differs by {percent(size)} from itself alone in {subject.layer(index)}"
    if exact:
        return "fail", (
            f"In a batch with longer clips, {name} {where}: padding leaks into valid frames although exact_masking"
            " is True; mask by the lengths that encode is given, or leave exact_masking out."
        )
    return "fail", (
        f"In a batch with clips of its own length, {name} {where}: take no statistics over the batch in encode,"
        " as batch norm in training mode does."
    )


CHECK = Check(
    "a clip differs from itself alone by more than 1e-4 of a layer's scale: padding leaks, or statistics are taken over"
    " the batch",
    alone,
    order=30,
    in_short_form=True,
)
