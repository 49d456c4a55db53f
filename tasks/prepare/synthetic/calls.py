"""Synthetic animal-like calls: whistles, trills, harmonic stacks, clicks, pulses, noise."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float64]

# Part of every seed and of the version of prepared data. Raise it with any change that alters a sample.
VERSION = 1


def seeded(*key: str | int) -> np.random.Generator:
    """Return the random generator of one item. It depends only on the key, on every machine."""
    # crc32, because hash() of text differs between processes.
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in (VERSION, *key)]
    return np.random.default_rng(np.random.SeedSequence(words))


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number between ``low`` and ``high`` whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


@dataclass(frozen=True)
class Voice:
    """The properties of one individual, common to all its calls.

    Attributes:
        pitch: fundamental or centre frequency, in Hz.
        tempo: notes, pulses or modulation cycles per second, in Hz.
        sweep: ratio of the highest to the lowest frequency of a modulated note.
        duty: share of a note's period with sound.
        rolloff: decrease of the harmonics, in dB per octave.
    """

    pitch: float
    tempo: float
    sweep: float
    duty: float
    rolloff: float

    @classmethod
    def of(cls, kind: str, *key: str | int) -> "Voice":
        """Return the individual of a call type that ``key`` names."""
        rng = seeded("voice", kind, *key)
        pitch, tempo, _ = CALLS[kind]
        return cls(
            pitch=log_uniform(rng, *pitch),
            tempo=log_uniform(rng, *tempo),
            sweep=log_uniform(rng, 1.4, 2.6),
            duty=float(rng.uniform(0.4, 0.8)),
            rolloff=float(rng.uniform(6.0, 24.0)),
        )

    def vary(self, rng: np.random.Generator) -> "Voice":
        """Return the same individual with pitch, tempo and sweep changed by a few per cent."""
        pitch, tempo, sweep = np.exp(rng.normal(0.0, (0.06, 0.1, 0.06)))
        return Voice(self.pitch * pitch, self.tempo * tempo, self.sweep * sweep, self.duty, self.rolloff)


def _fade(n: int, rate: int, seconds: float) -> Samples:
    """Return an envelope (n,) of ones with raised-cosine ends of at most ``seconds``."""
    ramp = min(n // 2, max(1, round(seconds * rate)))
    shape = 0.5 - 0.5 * np.cos(np.pi * (np.arange(ramp) + 0.5) / ramp)
    envelope = np.ones(n)
    envelope[:ramp] = shape
    envelope[n - ramp :] = shape[::-1]
    return envelope


def _tone(frequency: Samples, rate: int, rolloff: float, harmonics: int) -> Samples:
    """Return a harmonic tone along a frequency contour in Hz. Harmonics above 0.45 of the rate are left out."""
    phase = 2 * np.pi * np.cumsum(frequency) / rate
    out = np.zeros(len(frequency))
    for k in range(1, harmonics + 1):
        audible = k * frequency < 0.45 * rate
        if not audible.any():
            break
        out += 10 ** (-rolloff * np.log2(k) / 20) * audible * np.sin(k * phase)
    return out


def coloured_noise(n: int, rate: int, exponent: float, rng: np.random.Generator) -> Samples:
    """Return ``n`` samples of noise, mean square 1, power 1/f**exponent above 50 Hz: 0 white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    frequency = np.maximum(np.fft.rfftfreq(n, 1 / rate), 50.0)
    noise: Samples = np.fft.irfft(spectrum * frequency ** (-exponent / 2), n)
    noise /= np.sqrt(np.mean(noise**2))
    return noise


def _band_noise(n: int, rate: int, centre: float, ratio: float, rng: np.random.Generator) -> Samples:
    """Return noise around ``centre`` Hz with a Gaussian spectrum over log frequency; ``ratio`` is one deviation."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    octaves = np.log2(np.maximum(np.fft.rfftfreq(n, 1 / rate), 1.0) / centre)
    noise: Samples = np.fft.irfft(spectrum * np.exp(-0.5 * (octaves / np.log2(ratio)) ** 2), n)
    noise /= np.sqrt(np.mean(noise**2))
    return noise


def _notes(n: int, rate: int, voice: Voice, note: Callable[[int], Samples], fade: float = 0.01) -> Samples:
    """Return ``n`` samples of notes at the voice's tempo. The last note is shortened to fit."""
    period = rate / voice.tempo
    out = np.zeros(n)
    for index in range(int(np.ceil(n / period))):
        begin = round(index * period)
        length = min(max(8, round(period * voice.duty)), n - begin)
        if length >= 8:
            out[begin : begin + length] = note(length) * _fade(length, rate, fade)
    return out


def _swept(contour: Callable[[Samples], Samples]) -> Callable[..., Samples]:
    """Return a call type: whistles whose frequency follows ``contour``, from 0 (lowest) to 1 (highest) per note."""

    def call(n: int, rate: int, voice: Voice, rng: np.random.Generator) -> Samples:
        def note(length: int) -> Samples:
            course = contour(np.linspace(0.0, 1.0, length))
            return _tone(voice.pitch * voice.sweep ** (course - 0.5), rate, voice.rolloff + 12, 2)

        return _notes(n, rate, voice, note)

    return call


def _warble(n: int, rate: int, voice: Voice, rng: np.random.Generator) -> Samples:
    course = np.sin(2 * np.pi * (voice.tempo * np.arange(n) / rate + rng.uniform()))
    return _tone(voice.pitch * voice.sweep ** (course / 2), rate, voice.rolloff + 12, 2) * _fade(n, rate, 0.03)


def _trill(n: int, rate: int, voice: Voice, rng: np.random.Generator) -> Samples:
    # The frequency of each short note falls slightly, as in most trills.
    def note(length: int) -> Samples:
        return _tone(voice.pitch * 1.15 ** -np.linspace(-0.5, 0.5, length), rate, voice.rolloff + 12, 2)

    return _notes(n, rate, voice, note, fade=0.006)


def _harmonic_stack(n: int, rate: int, voice: Voice, rng: np.random.Generator) -> Samples:
    def note(length: int) -> Samples:
        course = np.sin(np.pi * np.linspace(0.05, 0.85, length))
        return _tone(voice.pitch * (1 + 0.15 * course), rate, voice.rolloff / 2, 16)

    return _notes(n, rate, voice, note, fade=0.03)


def _click_train(n: int, rate: int, voice: Voice, rng: np.random.Generator) -> Samples:
    length = max(8, round(0.004 * rate))
    decay = np.exp(-np.arange(length) / (0.0008 * rate))
    click = decay * np.sin(2 * np.pi * voice.pitch * np.arange(length) / rate)
    out = np.zeros(n + length)
    time = 0.0
    while time * rate < n:
        begin = int(time * rate)
        out[begin : begin + length] += click * rng.uniform(0.7, 1.0)
        time += rng.uniform(0.95, 1.05) / voice.tempo
    return out[:n]


def _pulse_train(n: int, rate: int, voice: Voice, rng: np.random.Generator) -> Samples:
    # The fast amplitude modulation sounds like a buzz and gives sidebands in the spectrum.
    gate: Samples = np.maximum(0.0, np.sin(2 * np.pi * voice.tempo * np.arange(n) / rate)) ** 2
    carrier = np.full(n, voice.pitch)
    return _tone(carrier, rate, voice.rolloff, 3) * gate * _fade(n, rate, 0.02)


def _noise_burst(n: int, rate: int, voice: Voice, rng: np.random.Generator) -> Samples:
    hiss = _band_noise(n, rate, voice.pitch, voice.sweep, rng)
    hiss *= _notes(n, rate, voice, np.ones, fade=0.02)
    return hiss


def _two_note(n: int, rate: int, voice: Voice, rng: np.random.Generator) -> Samples:
    def note(length: int) -> Samples:
        high = np.arange(length) < length // 2
        return _tone(voice.pitch * np.where(high, voice.sweep**0.25, voice.sweep**-0.25), rate, voice.rolloff + 6, 3)

    return _notes(n, rate, voice, note)


Range = tuple[float, float]
# Per call type: range of pitch (Hz), range of tempo (Hz), and renderer. The ranges overlap, so that pitch alone is not
# enough to recognise a type.
CALLS: dict[str, tuple[Range, Range, Callable[[int, int, Voice, np.random.Generator], Samples]]] = {
    "arch": ((1400, 3000), (1.5, 4.0), _swept(lambda x: np.sin(np.pi * x))),
    "click-train": ((2000, 5500), (12.0, 40.0), _click_train),
    "downsweep": ((2200, 5000), (1.5, 4.0), _swept(lambda x: 1 - x)),
    "harmonic-stack": ((200, 600), (1.5, 4.0), _harmonic_stack),
    "noise-burst": ((1500, 4000), (2.0, 6.0), _noise_burst),
    "pulse-train": ((1000, 2500), (40.0, 120.0), _pulse_train),
    "trill": ((2500, 5500), (10.0, 25.0), _trill),
    "two-note": ((700, 1500), (1.0, 3.0), _two_note),
    "upsweep": ((1000, 2300), (1.5, 4.0), _swept(lambda x: x)),
    "warble": ((1800, 4000), (4.0, 14.0), _warble),
}


def render_call(kind: str, voice: Voice, seconds: float, rate: int, rng: np.random.Generator) -> Samples:
    """Return the samples of a bout of calls, with mean square 1."""
    samples: Samples = CALLS[kind][2](max(16, round(seconds * rate)), rate, voice.vary(rng), rng)
    samples /= np.sqrt(np.mean(samples**2))
    return samples
