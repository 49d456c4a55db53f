"""The two built-in tasks, made of synthetic calls: ``mini-calls`` and ``mini-soundscape``.

Every item has its own seed, so it does not depend on which other items are rendered, or on their order. A plan
describes an item and is cheap to compute; ``render_*`` computes the samples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.prepare.synthetic.calls import CALLS, Samples, Voice, coloured_noise, log_uniform, render_call, seeded
from tasks.task import SPLITS, Split

RATES = (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
CLIP_SECONDS = (0.5, 6.0)
CLIP_SNR = (-5.0, 20.0)
CLIPS_PER_INDIVIDUAL = 5
INDIVIDUALS: dict[Split, int] = {"train": 6, "valid": 2, "test": 2}

SCAPE_RATE = 32_000
SCAPE_SECONDS = 60.0
SCAPE_SNR = (0.0, 15.0)
SCAPE_CALLS = (12, 20)
SCAPES: dict[Split, int] = {"train": 12, "valid": 5, "test": 5}
SCAPE_INDIVIDUALS = 4
SCAPE_LABELS = ("click-train", "harmonic-stack", "noise-burst", "trill", "upsweep", "warble")
# Present in every soundscape but never labelled, like other species in field recordings.
SCAPE_DISTRACTORS = ("downsweep", "pulse-train")


def _level(samples: Samples, rng: np.random.Generator) -> NDArray[np.float32]:
    """Scale the samples to a random peak between -24 and -1 dB of full scale."""
    peak: float = 10 ** (rng.uniform(-24.0, -1.0) / 20)
    return np.asarray(samples * (peak / np.max(np.abs(samples))), dtype=np.float32)


# --- mini-calls ---


@dataclass(frozen=True)
class ClipPlan:
    """One item of ``mini-calls``: a bout of one individual over coloured noise.

    ``seconds`` is its length, ``rate`` its sample rate in Hz, ``snr`` the call's power over the noise's in dB while
    the call lasts.
    """

    label: str
    individual: int
    take: int
    split: Split
    seconds: float
    rate: int
    snr: float

    @property
    def path(self) -> str:
        """The path of its file, relative to the task's directory."""
        return f"audio/{self.label}/{self.label}_{self.individual:02d}_{self.take}.flac"

    @property
    def recording(self) -> str:
        """The calling individual: its clips are not independent."""
        return f"{self.label}_{self.individual:02d}"


def plan_calls() -> list[ClipPlan]:
    """Return the plans of all clips of ``mini-calls``, by call type, individual and take.

    No individual is in two splits.
    """
    splits = [split for split in SPLITS for _ in range(INDIVIDUALS[split])]
    clips = []
    for label in sorted(CALLS):
        for individual, split in enumerate(splits):
            for take in range(CLIPS_PER_INDIVIDUAL):
                rng = seeded("mini-calls", "plan", label, individual, take)
                seconds, rate = log_uniform(rng, *CLIP_SECONDS), int(rng.choice(RATES))
                clips.append(ClipPlan(label, individual, take, split, seconds, rate, float(rng.uniform(*CLIP_SNR))))
    return clips


def render_clip(clip: ClipPlan) -> NDArray[np.float32]:
    """Return the samples of one clip, shape (seconds * rate,), within -1 and 1."""
    rng = seeded("mini-calls", "render", clip.label, clip.individual, clip.take)
    n = round(clip.seconds * clip.rate)
    mixture = coloured_noise(n, clip.rate, rng.uniform(0.0, 1.5), rng)
    bout = render_call(
        clip.label, Voice.of(clip.label, clip.individual), clip.seconds * rng.uniform(0.5, 1), clip.rate, rng
    )
    begin = int(rng.integers(0, n - len(bout) + 1))
    mixture[begin : begin + len(bout)] += 10 ** (clip.snr / 20) * bout
    return _level(mixture, rng)


# --- mini-soundscape ---


@dataclass(frozen=True)
class Event:
    """One bout in a soundscape: start and end in seconds, SNR in dB. ``labelled`` is false for the other species."""

    st: float
    ed: float
    label: str
    individual: int
    snr: float
    labelled: bool


@dataclass(frozen=True)
class Soundscape:
    """One recording of ``mini-soundscape``."""

    index: int
    split: Split
    events: tuple[Event, ...]

    @property
    def path(self) -> str:
        """The path of its file, relative to the task's directory."""
        return f"audio/scape_{self.index:02d}.flac"

    @property
    def annotations(self) -> list[dict[str, float | str]]:
        """Its annotations in the manifest: start and end in seconds and the label, with the keys of BEANS."""
        return [{"st": event.st, "ed": event.ed, "label": event.label} for event in self.events if event.labelled]


def plan_soundscapes() -> list[Soundscape]:
    """Return the plans of all recordings of ``mini-soundscape``. No individual is in two splits."""
    scapes: list[Soundscape] = []
    for split in SPLITS:
        for _ in range(SCAPES[split]):
            index = len(scapes)
            rng = seeded("mini-soundscape", "plan", index)
            events = [_event(rng, SCAPE_LABELS, True) for _ in range(rng.integers(*SCAPE_CALLS))]
            events += [_event(rng, SCAPE_DISTRACTORS, False) for _ in range(len(events) // 3)]
            scapes.append(Soundscape(index, split, tuple(sorted(events, key=lambda event: event.st))))
    return scapes


def _event(rng: np.random.Generator, kinds: tuple[str, ...], labelled: bool) -> Event:
    seconds = log_uniform(rng, 0.4, 5.0)
    st = round(float(rng.uniform(0, SCAPE_SECONDS - seconds)), 3)
    snr = float(rng.uniform(*SCAPE_SNR))
    label, individual = str(rng.choice(kinds)), int(rng.integers(SCAPE_INDIVIDUALS))
    return Event(st, round(st + seconds, 3), label, individual, snr, labelled)


def render_soundscape(scape: Soundscape) -> NDArray[np.float32]:
    """Return the samples of one recording at ``SCAPE_RATE``, shape (60 s * rate,), within -1 and 1."""
    rng = seeded("mini-soundscape", "render", scape.index)
    n = round(SCAPE_SECONDS * SCAPE_RATE)
    mixture = coloured_noise(n, SCAPE_RATE, rng.uniform(0.3, 1.3), rng)
    for event in scape.events:
        voice = Voice.of(event.label, "mini-soundscape", scape.split, event.individual)
        bout = render_call(event.label, voice, event.ed - event.st, SCAPE_RATE, rng)
        begin = round(event.st * SCAPE_RATE)
        mixture[begin : begin + len(bout)] += 10 ** (event.snr / 20) * bout
    return _level(mixture, rng)
