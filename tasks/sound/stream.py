"""Opened sound files: what soundfile and libsndfile need to read a file to its end.

Import this module where it is used: it loads libsndfile.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from mmap import ACCESS_READ, mmap
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from tasks.sound.mp3 import Bytes, Frames, count_frames

# Values, over all channels, that are decoded at once.
_BLOCK_VALUES = 1 << 20
UNKNOWN_LENGTH = 2**63 - 1
"""The number of samples that libsndfile gives for a file that does not state it."""


class Stream(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that is read from front to back.

    soundfile seeks after each block that it reads. libsndfile cannot seek to the end of a FLAC file of unknown length,
    so the last block would fail.
    """

    def seekable(self) -> bool:
        """Return False, so that soundfile does not seek by itself. A seek that the caller requests works."""
        return False

    def blocks_of(self, most: int) -> Iterator[NDArray[np.float32]]:
        """Read up to ``most`` frames, in blocks of (frames, channels) float32."""
        together = max(1, _BLOCK_VALUES // self.channels)
        while most > 0:
            block = self.read(min(together, most), dtype="float32", always_2d=True)
            if not len(block):
                return
            most -= len(block)
            yield block


class _Spliced(io.RawIOBase):
    """A file whose start is replaced: ``head``, and then the bytes of ``file`` from ``skip`` on."""

    def __init__(self, head: bytes, file: io.BufferedIOBase, skip: int) -> None:
        self._head, self._file, self._skip = head, file, skip
        self._place = 0
        self._size = len(head) + file.seek(0, io.SEEK_END) - skip

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = base + offset
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        part = self._head[self._place : self._place + len(buffer)]
        if not part:
            self._file.seek(self._place - len(self._head) + self._skip)
            part = self._file.read(len(buffer))
        buffer[: len(part)] = part
        self._place += len(part)
        return len(part)


@contextmanager
def opened(file: Path | bytes, frames: int | None = None) -> Iterator[Stream]:
    """Open a sound file.

    Args:
        file: its path, or its bytes.
        frames: its length in samples, as `Header.frames`; None if it is not known yet.

    Raises:
        OSError: it cannot be opened.
        soundfile.LibsndfileError: it is not audio.
    """
    with _source(file) as source, Stream(source) as stream:
        counted = mp3_frames(file) if stream.format == "MP3" and stream.frames != frames else None
        if counted is None or not counted.misses(stream.frames):
            yield stream
            return
    with content(file) as data:
        head = counted.head(data)
    with _binary(file) as source, _Spliced(head, source, counted.audio) as spliced, Stream(spliced) as stream:
        yield stream


def mp3_frames(file: Path | bytes) -> Frames | None:
    """Count the frames of an MP3 file, once if the file does not change."""
    if isinstance(file, bytes):
        return count_frames(file)
    status = file.stat()
    return _counted(file, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1 << 10)
def _counted(file: Path, size: int, changed: int) -> Frames | None:
    """Count frames. ``size`` and ``changed`` are part of the cache's key: a changed file is counted again."""
    with content(file) as data:
        return count_frames(data)


@contextmanager
def content(file: Path | bytes) -> Iterator[Bytes]:
    """The bytes of a file, mapped into memory."""
    if isinstance(file, bytes):
        yield file
        return
    with file.open("rb") as source, mmap(source.fileno(), 0, access=ACCESS_READ) as mapped:
        yield mapped


@contextmanager
def _source(file: Path | bytes) -> Iterator[str | io.IOBase]:
    """What soundfile opens. It takes a name that ends in .raw for audio without a header, whatever the file holds."""
    if isinstance(file, Path) and file.suffix.lower() != ".raw":
        yield str(file)
        return
    with _binary(file) as source, _Spliced(b"", source, 0) as nameless:
        yield nameless


def _binary(file: Path | bytes) -> io.BufferedIOBase:
    return io.BytesIO(file) if isinstance(file, bytes) else file.open("rb")
