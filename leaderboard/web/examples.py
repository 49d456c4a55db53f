"""The data of a task: item counts per class, and examples with their picture and sound."""

import io
import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.support.errors import UserError
from tasks.task import SPLITS, Item, Manifest, Split, Task

# Examples come from the train split, so that authors of models do not hear the test items.
HEARD: Split = "train"
# Examples per class, each from another recording.
MOST_EXAMPLES = 3
# Longest sound that a page plays, in seconds.
LONGEST = 10.0
# A higher sample rate is for ultrasound (people hear up to 20 kHz). The page plays such a recording ten times slower.
ULTRASONIC_RATE = 96_000
SLOWED = 10
# The lowest sample rate that browsers play.
_LEAST_RATE = 8_000

_COLUMNS = 640
_WINDOW_SECONDS = 0.064
_MOST_MELS = 80
_RANGE_DB = 60.0
_FLOOR_DB = -100.0

# Licences that let everybody publish the data with attribution. The page names source, licence and citation.
_FREE = re.compile(
    r"CC0([ -]1\.0)?|CC[ -]BY([ -]SA)?([ -][1-4]\.\d)?|public domain|no restriction( \(NOAA\))?", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Example:
    """One item to show: its id, its file, its window in seconds (None for the whole file), and its class names."""

    id: str
    path: Path
    window: tuple[float, float] | None
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Overview:
    """Counts and examples of a manifest.

    Attributes:
        labels: (classes,) names.
        items: number of items per split.
        counts: per split, (classes,) number of items with the class; a window may have several classes.
        unlabelled: per split, number of items without a class.
        examples: (classes,) up to `MOST_EXAMPLES` per class, from the split `HEARD`.
    """

    labels: tuple[str, ...]
    items: dict[Split, int]
    counts: dict[Split, tuple[int, ...]]
    unlabelled: dict[Split, int]
    examples: tuple[tuple[Example, ...], ...]

    def most_common(self, number: int) -> list[int]:
        """The ``number`` classes with the most items in the split `HEARD`, in the order of the labels."""
        counts = self.counts[HEARD]
        by_count = sorted(range(len(counts)), key=lambda index: (-counts[index], index))
        return sorted(index for index in by_count[:number] if counts[index])


@dataclass(frozen=True, slots=True)
class ExampleClip:
    """The sound and the picture of an example.

    Attributes:
        audio: FLAC, mono.
        picture: PNG of the mel spectrogram, low frequencies at the bottom. Its rows have equal distances on the mel
            scale of the played sound.
        seconds: length of the picture and the sound, in seconds of the recording.
        whole: length of the whole item in seconds.
        top: highest frequency of the picture, in Hz of the recording.
        slowed: factor by which the played sound is slower than the recording.
    """

    audio: bytes
    picture: bytes
    seconds: float
    whole: float
    top: float
    slowed: int


def overview(manifest: Manifest) -> Overview:
    """Count the items per class and choose the examples. The result depends on the manifest alone."""
    counted = {split: Counter(label for item in manifest.items[split] for label in item.labels) for split in SPLITS}
    classes = range(len(manifest.labels))
    of_class: list[list[Item]] = [[] for _ in classes]
    for item in manifest.items[HEARD]:
        for label in item.labels:
            of_class[label].append(item)
    return Overview(
        labels=manifest.labels,
        items={split: len(manifest.items[split]) for split in SPLITS},
        counts={split: tuple(counted[split][label] for label in classes) for split in SPLITS},
        unlabelled={split: sum(not item.labels for item in manifest.items[split]) for split in SPLITS},
        examples=tuple(_choose(items, manifest.labels) for items in of_class),
    )


def _choose(items: list[Item], labels: tuple[str, ...]) -> tuple[Example, ...]:
    """Choose one item per recording: the one with the fewest classes."""
    first_of: dict[str, Item] = {}
    for item in sorted(items, key=lambda item: len(item.labels)):
        first_of.setdefault(item.recording, item)
    return tuple(
        Example(item.id, item.path, item.window, tuple(labels[label] for label in item.labels))
        for item in list(first_of.values())[:MOST_EXAMPLES]
    )


def why_not_played(task: Task) -> str | None:
    """The reason why a public page does not play the task's sounds, as one sentence; None if it plays them.

    A public page publishes the sounds that it plays. So the sounds must be generated, or their licence must be known to
    allow everybody to publish them, also commercially.
    """
    licence = " ".join(task.facts.licence.split())
    if task.group == "builtin":
        return None
    if not licence:
        return "No licence is stated, so this page does not play the sounds."
    if _FREE.fullmatch(licence) and task.facts.commercial_use in (True, None):
        return None
    return f"The licence ({licence}) does not let every public page play the sounds."


def make_clip(example: Example, max_duration: float | None = None) -> ExampleClip:
    """Decode the start of an example and draw it.

    Args:
        example: of `Overview`.
        max_duration: seconds to which the task crops its clips.

    Raises:
        UserError: the file is missing or damaged; the message names the file without its directory.
    """
    # Imported here because the module imports torch, which takes a second.
    from tasks.sound import decode, encode_flac, read_header, resample

    try:
        header = read_header(example.path)
        rate = header.sample_rate
        slowed = SLOWED if rate > ULTRASONIC_RATE else 1
        first, stop = 0, header.frames
        if example.window is not None:
            first, stop = (min(int(second * rate), header.frames) for second in example.window)
        elif max_duration is not None:
            stop = min(stop, int(max_duration * rate))
        end = min(stop, first + int(LONGEST / slowed * rate))
        if end <= first:
            raise UserError(f"{example.path} ends before the window starts")
        samples = decode(example.path, header, end, first)
    except UserError as error:
        raise UserError(str(error).replace(str(example.path), example.path.name)) from error
    played = rate // slowed
    flac_rate = max(played, _LEAST_RATE)
    return ExampleClip(
        audio=encode_flac(resample(samples, played, flac_rate).numpy(), flac_rate),
        picture=_picture(mel_decibels(samples.numpy(), played)),
        seconds=(end - first) / rate,
        whole=(stop - first) / rate,
        top=played * slowed / 2,
        slowed=slowed,
    )


def mel(frequency: float) -> float:
    """Convert a frequency in Hz to mel (O'Shaughnessy's formula)."""
    return 2595 * math.log10(1 + frequency / 700)


def mel_decibels(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Compute a mel spectrogram from 0 to half of ``rate`` Hz: (bands, columns) power in dB of full scale."""
    import torch
    from torchaudio.transforms import AmplitudeToDB, MelSpectrogram

    width = 2 ** max(4, round(math.log2(_WINDOW_SECONDS * rate)))
    # The lowest bands are the narrowest: 0.62 Hz per mel. With more bands, some would fall between two FFT bins.
    bands = int(0.62 * mel(rate / 2) * width / rate)
    spectrogram = MelSpectrogram(
        rate,
        n_fft=width,
        hop_length=max(1, math.ceil(len(samples) / _COLUMNS)),
        n_mels=min(max(bands, 4), _MOST_MELS),
        pad_mode="constant",
        normalized="window",
    )
    decibels: NDArray[np.float32] = AmplitudeToDB("power")(spectrogram(torch.from_numpy(samples))).numpy()
    return decibels


def _picture(decibels: NDArray[np.float32]) -> bytes:
    from matplotlib.image import imsave

    # The fixed floor keeps silence dark.
    low = max(float(decibels.max()) - _RANGE_DB, _FLOOR_DB)
    drawn = io.BytesIO()
    imsave(drawn, decibels, vmin=low, vmax=low + _RANGE_DB, cmap="magma", origin="lower", format="png")
    return drawn.getvalue()
