"""Headers of audio files, remembered beside the features: opening 100,000 files to look at them takes minutes."""

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tasks.sound import Header, read_header
from tasks.support.errors import UserError
from tasks.support.files import write_atomically

_THREADS = 2
# Read at once for a checksum.
_BLOCK_BYTES = 1 << 20


Seen = tuple[int, int, int, int, str]
"""One file: size in bytes, time of last change in nanoseconds, sample rate in Hz, samples, checksum of its bytes."""


@dataclass
class Headers:
    """Header and checksum of every file, by path.

    A file is read again only when its size or its time of change differs. Neither is part of a key: the same audio in
    another place, or copied at another time, has the same features.
    """

    seen: dict[str, Seen] = field(default_factory=dict)
    is_new: bool = False

    @classmethod
    def read(cls, path: Path) -> "Headers":
        """What was kept in a file; nothing where there is none, or where it is not as ``write`` leaves it."""
        try:
            content = json.loads(path.read_bytes())
            # Plain tuples: of 100,000 objects the garbage collector alone would take half a second.
            return cls({
                name: (size, changed, rate, frames, checksum)
                for name, (size, changed, rate, frames, checksum) in content.items()
            })  # fmt: skip
        except (OSError, ValueError, TypeError, AttributeError):
            return cls()

    def write(self, path: Path) -> None:
        """Keep them, if there are new ones."""
        if self.is_new:
            write_atomically(path, json.dumps(self.seen))
            self.is_new = False

    def look(self, files: Iterable[Path]) -> tuple[dict[str, Seen], list[str]]:
        """What the headers say of files, by path, and what is wrong with the others, in a sentence each.

        A file is opened only where it is not known with this size and time of change.
        """
        found: dict[str, Seen] = {}
        unknown: dict[str, tuple[Path, int, int]] = {}
        for file in files:
            name = str(file)
            if name in found or name in unknown:
                continue
            try:
                status = file.stat()
                size, changed = status.st_size, status.st_mtime_ns
            except OSError:
                # The reader says what is wrong with it.
                size, changed = -1, -1
            seen = self.seen.get(name)
            if seen is not None and seen[:2] == (size, changed):
                found[name] = seen
            else:
                unknown[name] = file, size, changed
        problems = []
        with ThreadPoolExecutor(_THREADS) as pool:
            answers = pool.map(_open, (file for file, _, _ in unknown.values()))
            for (name, (_, size, changed)), answer in zip(unknown.items(), answers, strict=True):
                if isinstance(answer, UserError):
                    problems.append(str(answer))
                else:
                    header, checksum = answer
                    found[name] = self.seen[name] = (size, changed, header.sample_rate, header.frames, checksum)
                    self.is_new = True
        return found, problems


def _open(file: Path) -> tuple[Header, str] | UserError:
    try:
        return read_header(file), _checksum(file)
    except UserError as error:
        return error


def _checksum(file: Path) -> str:
    import xxhash

    content = xxhash.xxh3_128()
    with file.open("rb") as opened:
        while block := opened.read(_BLOCK_BYTES):
            content.update(block)
    return content.hexdigest()
