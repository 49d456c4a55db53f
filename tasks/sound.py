"""Sound files: check the header, decode, mix to mono, resample, encode."""

import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasks.support.errors import UserError

# A WAV file written as a stream declares a length near the maximum, because the length is not known yet.
_STREAMED_BYTES = 0x7FFF0000
# MP3 headers may overstate the length by an encoder delay. A larger difference is missing audio.
_HEADER_SLACK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a sound file: native sample rate in Hz, and length in samples."""

    sample_rate: int
    frames: int


@dataclass(frozen=True, slots=True)
class Content:
    """An audio file inside another file, such as a parquet table: its bytes, and a name for messages."""

    name: str
    bytes: bytes

    def __str__(self) -> str:
        return self.name


def read_header(path: Path | Content) -> Header:
    """Read and check the header of a file without decoding the file.

    Raises:
        UserError: the file is missing, empty, truncated or not audio.
    """
    import soundfile

    if isinstance(path, Path) and not path.is_file():
        raise UserError(f"{path} is missing")
    if (len(path.bytes) if isinstance(path, Content) else path.stat().st_size) == 0:
        raise UserError(f"{path} is empty (0 bytes)")
    try:
        info = soundfile.info(_readable(path), verbose=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise UserError(f"{path} is not audio that libsndfile can read") from error
    if info.frames <= 0:
        raise UserError(f"{path} holds no samples")
    # If the data chunk of a WAV declares more bytes than the file holds, libsndfile shortens it and only logs this.
    promised = re.search(r"^data : (\d+) \(should be (\d+)\)", info.extra_info, flags=re.MULTILINE)
    if promised and int(promised[2]) < int(promised[1]) < _STREAMED_BYTES:
        raise UserError(f"{path} is truncated ({promised[2]} of {promised[1]} bytes of audio)")
    return Header(info.samplerate, info.frames)


def decode(path: Path | Content, header: Header, stop: int, start: int = 0) -> Tensor:
    """Decode samples ``start`` to ``stop`` (exclusive): (samples,) float32 in [-1, 1], the mean over channels.

    Raises:
        UserError: the file holds less audio than its header declares, or a sample that is not finite.
    """
    import soundfile

    try:
        samples, _ = soundfile.read(_readable(path), frames=stop - start, start=start, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise UserError(f"{path} cannot be decoded: it is damaged or truncated") from error
    missing = stop - start - len(samples)
    if missing > _HEADER_SLACK_SECONDS * header.sample_rate:
        raise UserError(f"{path} is truncated ({start + len(samples)} of {stop} samples)")
    waveform = torch.from_numpy(samples).mean(dim=1)
    if missing > 0:
        waveform = torch.nn.functional.pad(waveform, (0, missing))
    if not torch.isfinite(waveform).all():
        raise UserError(f"{path} holds samples that are not finite")
    return waveform


def encode_flac(samples: NDArray[np.float32], rate: int) -> bytes:
    """Encode (samples,) in [-1, 1] as a 16-bit FLAC file, in memory.

    Python then writes the file and raises an OSError on a full disk. libsndfile would report "System error" or nothing.
    """
    import soundfile

    encoded = io.BytesIO()
    soundfile.write(encoded, samples, rate, format="FLAC", subtype="PCM_16")
    return encoded.getvalue()


def _readable(path: Path | Content) -> str | io.BytesIO:
    return io.BytesIO(path.bytes) if isinstance(path, Content) else str(path)


def resampled_length(samples: int, native: int, rate: int) -> int:
    """Length of ``samples`` samples at ``native`` Hz after `resample` to ``rate`` Hz.

    It is samples * rate / native, rounded up: the number of instants 0, 1/rate, 2/rate, ... before the end.
    """
    # Integer arithmetic: floating point would be inexact for recordings of hours.
    return -(-samples * rate // native)


def resample(waveform: Tensor, native: int, rate: int) -> Tensor:
    """Resample (samples,) float32 from ``native`` Hz to ``rate`` Hz with soxr's HQ filter. It does not shift the sound.

    The result has `resampled_length` samples.
    """
    if native == rate:
        return waveform
    import soxr

    # soxr rounds the length to the nearest number and may omit the last sample. Zeros after the end change no other
    # sample, because soxr itself continues a sound with zeros.
    zeros = -(-native // rate)
    padded = torch.nn.functional.pad(waveform, (0, zeros)).numpy()
    resampled = torch.from_numpy(soxr.resample(padded, native, rate, quality="HQ"))
    return resampled[: resampled_length(len(waveform), native, rate)]
