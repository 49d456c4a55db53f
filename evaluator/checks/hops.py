"""The relation between a layer's number of frames and the number of samples."""

from collections.abc import Iterator, Sequence

from evaluator.checks.sounds import Sound
from evaluator.checks.subject import Subject
from evaluator.features.extraction import Block


def frames(subject: Subject, sounds: Sequence[Sound]) -> Iterator[tuple[Block, list[int], list[int]]]:
    """Yield each block, the samples of each sound, and its number of frames. The sounds must have been encoded."""
    samples = [len(sound.waveform) for sound in sounds]
    for block in subject.extractor.blocks:
        yield block, samples, [subject.encoded[sound.name][block.layers[0]].count for sound in sounds]


def constant_hop(samples: Sequence[int], counts: Sequence[int]) -> float | None:
    """Return the samples per frame; 0 if all clips have the same number of frames; None if no hop fits the counts.

    Counts with one constant hop differ by at most one frame from the line through the first and the last count.
    """
    slope = (counts[-1] - counts[0]) / (samples[-1] - samples[0])
    points = zip(samples, counts, strict=True)
    if any(abs(count - counts[0] - slope * (length - samples[0])) > 1 for length, count in points):
        return None
    return 1 / slope if slope else 0.0
