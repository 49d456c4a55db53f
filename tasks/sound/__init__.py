"""Sound files: check the header, decode, mix to mono, resample, encode."""

import errno
import io
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasks.sound.ogg import why_not_whole
from tasks.support.errors import UserError

if TYPE_CHECKING:
    from soxr import ResampleStream

    from tasks.sound.stream import Stream

# A file written as a stream declares a length near the maximum, because the length is not known yet. sox writes
# 0x7F000000 into AIFF and 0x7FFFF000 into WAV files.
_STREAMED_BYTES = 0x7F000000
# What libsndfile logs of a file that holds less than its header declares: WAV, AIFF and SVX; AU; W64; RF64; MAT4; WVE.
_PROMISES = (
    (r"^ *(?:data|SSND|BODY) : (?P<declared>\d+) \(should be (?P<there>\d+)\)", "bytes of audio"),
    (r"^ *Data Size +: (?P<declared>\d+) \(should be (?P<there>\d+)\)", "bytes of audio"),
    (r"^riff : (?P<declared>\d+) \(should be (?P<there>\d+)\)", "bytes"),
    (r"frame count (?P<there>\d+) does not match value from 'ds64' chunk of (?P<declared>\d+)", "samples"),
    (r"truncated\. (?P<there>\d+) <--> (?P<declared>\d+)", "bytes of audio"),
    (r"^Data length (?P<declared>\d+) should be (?P<there>\d+)", "bytes of audio"),
)
# Zeros that are resampled at once, after a sound that is shorter than expected.
_BLOCK_SAMPLES = 1 << 20
# MP3 headers may overstate the length by an encoder delay. A larger difference is missing audio.
_HEADER_SLACK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a sound file.

    Attributes:
        sample_rate: native sample rate in Hz.
        frames: length in samples.
        cut: whether an MP3 file has a gap or ends in the middle of a frame. It does not state how much is missing.
    """

    sample_rate: int
    frames: int
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Content:
    """An audio file inside another file, such as a parquet table: its bytes, and a name for messages."""

    name: str
    bytes: bytes

    def __str__(self) -> str:
        return self.name


def read_header(path: Path | Content) -> Header:
    """Read and check the header of a file.

    The file is decoded only if nothing else states its length: a FLAC file that was written as a stream. The frames of
    an MP3 file are counted, because libsndfile only estimates their number.

    Raises:
        UserError: the file is missing, unreadable, empty, truncated or not audio.
    """
    import soundfile

    from tasks.sound.stream import content, mp3_frames, opened

    _check_file(path)
    source = path.bytes if isinstance(path, Content) else path
    try:
        with opened(source) as stream:
            header, form, log = Header(stream.samplerate, _length(stream)), stream.format, stream.extra_info
    except OSError as error:
        raise UserError(_unreadable(path, error)) from error
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise UserError(f"{path} {_not_opened(path, error)}") from error
    if form == "OGG":
        with content(source) as data:
            problem = why_not_whole(data)
        if problem:
            raise UserError(f"{path} {problem}")
    if form == "MP3":
        counted = mp3_frames(source)
        if counted is not None and counted.is_truncated:
            raise UserError(f"{path} is truncated ({counted.count} of {counted.stated} MP3 frames)")
        header = replace(header, cut=counted is not None and not counted.whole)
    promised = _promised(log)
    if promised is not None:
        raise UserError(f"{path} is truncated ({promised[1]} of {promised[0]} {promised[2]})")
    if header.frames <= 0:
        raise UserError(f"{path} holds no samples")
    return header


def _check_file(path: Path | Content) -> None:
    """Raise a UserError for a file that cannot be read or is empty."""
    if isinstance(path, Content):
        size = len(path.bytes)
    else:
        try:
            status = path.stat()
            if stat.S_ISREG(status.st_mode):
                with path.open("rb"):
                    size = status.st_size
            else:
                raise UserError(f"{path} is {'a directory' if path.is_dir() else 'no ordinary file'}, not a sound file")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UserError(f"{path} is missing") from error
        except (OSError, ValueError) as error:
            raise UserError(_unreadable(path, error)) from error
    if size == 0:
        raise UserError(f"{path} is empty (0 bytes)")


def _unreadable(path: Path | Content, error: Exception) -> str:
    """Say why the operating system does not open a file."""
    if isinstance(error, PermissionError):
        return f"{path} may not be read (permission denied)"
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"{path!s:.80}... has a longer name than the system allows ({len(str(path))} characters)"
    return f"{path!s:.200} cannot be read ({error.strerror if isinstance(error, OSError) else error})"


def _not_opened(path: Path | Content, error: Exception) -> str:
    """Say why libsndfile does not open a file."""
    if str(path).lower().endswith(".raw"):
        return "is audio without a header (.raw), which states no sample rate: convert it to WAV or FLAC"
    reason = getattr(error, "error_string", "")
    if not reason or "not recognised" in reason:
        return "is not audio that libsndfile can read"
    return f"cannot be opened as audio: it is damaged or truncated ({reason.strip().removesuffix('.')})"


def _length(stream: "Stream") -> int:
    """Length in samples. A file that does not state it is decoded to its end."""
    from tasks.sound.stream import UNKNOWN_LENGTH

    if stream.frames < UNKNOWN_LENGTH:
        return int(stream.frames)
    return sum(len(block) for block in stream.blocks_of(UNKNOWN_LENGTH))


def _promised(log: str) -> tuple[int, int, str] | None:
    """What a header promises, what the file holds, and the unit; None if the file holds all of it.

    If a file holds less audio than its header declares, libsndfile shortens it and only logs this.
    """
    for pattern, unit in _PROMISES:
        found = re.search(pattern, log, flags=re.MULTILINE)
        if found:
            declared, there = int(found["declared"]), int(found["there"])
            if there < declared < _STREAMED_BYTES:
                return declared, there, unit
    return None


def decode(
    path: Path | Content,
    header: Header,
    stop: int,
    start: int = 0,
) -> Tensor:
    """Decode samples ``start`` to ``stop`` (exclusive): (samples,) float32 in [-1, 1], the mean over channels.

    Raises:
        UserError: the file holds less audio than its header declares, or a sample that is not finite.
    """
    waveform = torch.zeros(stop - start, dtype=torch.float32)
    place = 0
    for mono, _ in decode_blocks(path, header, stop, start):
        waveform[place : place + len(mono)] = mono
        place += len(mono)
    return waveform


def decode_blocks(
    path: Path | Content, header: Header, stop: int, start: int = 0
) -> Iterator[tuple[Tensor, NDArray[np.float32]]]:
    """Decode samples ``start`` to ``stop`` in blocks: the mean over channels, (samples,), and (samples, channels).

    The blocks have ``stop - start`` samples together: a file that lacks a few of them ends with zeros.

    Raises:
        UserError: as `decode`.
    """
    import soundfile

    from tasks.sound.stream import opened

    missing = stop - start
    try:
        with opened(path.bytes if isinstance(path, Content) else path, header.frames) as stream:
            if start:
                stream.seek(start)
            for block in stream.blocks_of(missing):
                missing -= len(block)
                mono = torch.from_numpy(block).mean(dim=1)
                if not torch.isfinite(mono).all():
                    raise UserError(f"{path} holds samples that are not finite")
                yield mono, block
    except OSError as error:
        raise UserError(_unreadable(path, error)) from error
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise UserError(f"{path} cannot be decoded: it is damaged or truncated") from error
    if missing > _HEADER_SLACK_SECONDS * header.sample_rate:
        raise UserError(f"{path} is truncated ({stop - missing} of {stop} samples)")
    if missing > 0:
        yield torch.zeros(missing, dtype=torch.float32), np.zeros((missing, 1), np.float32)


def encode_flac(samples: NDArray[np.float32], rate: int) -> bytes:
    """Encode (samples,) in [-1, 1] as a 16-bit FLAC file, in memory.

    Python then writes the file and raises an OSError on a full disk. libsndfile would report "System error" or nothing.
    """
    import soundfile

    encoded = io.BytesIO()
    soundfile.write(encoded, samples, rate, format="FLAC", subtype="PCM_16")
    return encoded.getvalue()


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
    resampler = Resampler(len(waveform), native, rate)
    resampler.add(waveform)
    return resampler.finish()


def _filter(native: int, rate: int) -> "ResampleStream":
    import soxr

    return soxr.ResampleStream(native, rate, 1, dtype="float32", quality="HQ")


class Resampler:
    """Resamples a sound block by block, to the same samples as all at once. Only the result is in memory."""

    def __init__(self, samples: int, native: int, rate: int) -> None:
        """Prepare for a sound of ``samples`` samples at ``native`` Hz. A shorter one is continued with zeros."""
        self._missing = samples
        self._result = torch.zeros(resampled_length(samples, native, rate), dtype=torch.float32)
        self._place = 0
        self._zeros = 0
        self._stream: ResampleStream | None = None
        if native != rate:
            self._stream = _filter(native, rate)
            # soxr rounds the length to the nearest number and may omit the last sample. Zeros after the end change no
            # other sample, because soxr itself continues a sound with zeros.
            self._zeros = -(-native // rate)

    def add(self, block: Tensor) -> None:
        """Add the next samples."""
        self._missing -= len(block)
        self._put(block, last=False)

    def finish(self) -> Tensor:
        """The resampled sound."""
        while self._missing > _BLOCK_SAMPLES:
            self.add(torch.zeros(_BLOCK_SAMPLES, dtype=torch.float32))
        self._put(torch.zeros(self._missing + self._zeros, dtype=torch.float32), last=True)
        return self._result

    def _put(self, block: Tensor, *, last: bool) -> None:
        if self._stream is not None:
            block = torch.from_numpy(self._stream.resample_chunk(block.numpy(), last=last))
        block = block[: len(self._result) - self._place]
        self._result[self._place : self._place + len(block)] = block
        self._place += len(block)
