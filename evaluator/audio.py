"""From an audio file to what a backbone hears: decode, mix to mono, crop, resample."""

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from tasks.errors import UserError

# A WAV file written as a stream declares a length near the end of the range because it is not known yet.
_STREAMED_BYTES = 0x7FFF0000
# MP3 headers may overstate the length by an encoder delay; anything beyond this is missing audio.
_HEADER_SLACK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Header:
    """What a file's header says: native sample rate in Hz, and length in samples."""

    sample_rate: int
    frames: int


@dataclass(frozen=True, slots=True)
class Cut:
    """A stretch of a recording in native samples; ``padded`` is its length after zeros are added at the end."""

    start: int
    stop: int
    padded: int

    @classmethod
    def whole(cls, header: Header, max_duration: float | None) -> "Cut":
        """The clip, cropped to its first ``max_duration`` seconds."""
        frames = header.frames
        if max_duration is not None:
            frames = min(frames, int(max_duration * header.sample_rate))
        return cls(0, frames, frames)

    @classmethod
    def window(cls, header: Header, start: float, end: float) -> "Cut":
        """A window in seconds; one that reaches past the end of the recording is padded to its full width."""
        first = min(int(start * header.sample_rate), header.frames)
        width = int((end - start) * header.sample_rate)
        return cls(first, min(first + width, header.frames), width)

    def resampled(self, native: int, rate: int) -> int:
        """Length in samples at ``rate`` Hz, as torchaudio's resampler rounds it."""
        return math.ceil(rate * self.padded / native)


def read_header(path: Path) -> Header:
    """Check a file without decoding it.

    Raises:
        UserError: the file is missing, empty, truncated or not audio.
    """
    import soundfile

    if not path.is_file():
        raise UserError(f"{path} is missing")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty (0 bytes)")
    try:
        info = soundfile.info(str(path), verbose=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise UserError(f"{path} is not audio that libsndfile can read") from error
    if info.frames <= 0:
        raise UserError(f"{path} holds no samples")
    # libsndfile silently clamps a WAV whose data chunk promises more than the file holds, but says so in its log.
    promised = re.search(r"^data : (\d+) \(should be (\d+)\)", info.extra_info, flags=re.MULTILINE)
    if promised and int(promised[2]) < int(promised[1]) < _STREAMED_BYTES:
        raise UserError(f"{path} is truncated ({promised[2]} of {promised[1]} bytes of audio)")
    return Header(info.samplerate, info.frames)


def decode(path: Path, header: Header, stop: int) -> Tensor:
    """The first ``stop`` samples as (samples,) float32 in [-1, 1], the mean over channels.

    Raises:
        UserError: the file holds less audio than its header promised, or a sample that is not finite.
    """
    import soundfile

    try:
        samples, _ = soundfile.read(str(path), frames=stop, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise UserError(f"{path} cannot be decoded: it is damaged or truncated") from error
    missing = stop - len(samples)
    if missing > _HEADER_SLACK_SECONDS * header.sample_rate:
        raise UserError(f"{path} is truncated ({len(samples)} of {stop} samples)")
    waveform = torch.from_numpy(samples).mean(dim=1)
    if missing > 0:
        waveform = torch.nn.functional.pad(waveform, (0, missing))
    if not torch.isfinite(waveform).all():
        raise UserError(f"{path} holds samples that are not finite")
    return waveform


def resample(waveforms: Tensor, native: int, rate: int) -> Tensor:
    """(..., samples) at ``native`` Hz to ``rate`` Hz with torchaudio's default sinc kernel."""
    return waveforms if native == rate else _resampler(native, rate)(waveforms)


@lru_cache(maxsize=64)
def _resampler(native: int, rate: int) -> torch.nn.Module:
    # Kept, because computing the kernel costs more than applying it to a short clip.
    from torchaudio.transforms import Resample

    kernel: torch.nn.Module = Resample(native, rate)
    return kernel


def load(path: Path, header: Header, cuts: list[Cut], rate: int) -> list[Tensor]:
    """Decode a recording once and return every cut of it, each (samples,) float32 at ``rate`` Hz.

    Cuts are made at the native rate and resampled afterwards, so that a window never holds sound from outside it.
    """
    waveform = decode(path, header, max(cut.stop for cut in cuts))
    pieces = [waveform[cut.start : cut.stop] for cut in cuts]
    pieces = [
        torch.nn.functional.pad(piece, (0, cut.padded - len(piece))) if len(piece) < cut.padded else piece
        for piece, cut in zip(pieces, cuts, strict=True)
    ]
    by_length: dict[int, list[int]] = {}
    for position, piece in enumerate(pieces):
        by_length.setdefault(len(piece), []).append(position)
    resampled: list[Tensor] = [torch.empty(0)] * len(pieces)
    for positions in by_length.values():
        batch = resample(torch.stack([pieces[position] for position in positions]), header.sample_rate, rate)
        for position, row in zip(positions, batch, strict=True):
            resampled[position] = row
    return resampled
