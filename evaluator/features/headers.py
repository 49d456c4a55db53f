"""A cache of the headers of audio files, stored with the features: opening 100,000 files takes minutes."""

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, field
from pathlib import Path

from tasks.sound import Header, read_header
from tasks.support.errors import UserError
from tasks.support.files import write_atomically
from tasks.support.threads import usable_cores

# Bytes read at once for a checksum.
_BLOCK_BYTES = 1 << 20


Seen = tuple[int, int, int, int, bool, str]
"""One file: size in bytes, time of last change in nanoseconds, the fields of its `Header`, checksum of its bytes."""


@dataclass
class Headers:
    """Header and checksum of every file, by path.

    A file is read again only when its size or its time of change differs. Path and time are no part of a feature's
    key: the same audio in another directory, or copied at another time, has the same features.
    """

    seen: dict[str, Seen] = field(default_factory=dict)
    is_new: bool = False

    @classmethod
    def read(cls, path: Path) -> "Headers":
        """Read the cache file. A missing or unreadable file gives an empty cache."""
        try:
            content = json.loads(path.read_bytes())
            # Plain tuples: with 100,000 objects the garbage collector alone takes half a second.
            return cls({
                name: (size, changed, rate, frames, cut, checksum)
                for name, (size, changed, rate, frames, cut, checksum) in content.items()
            })  # fmt: skip
        except (OSError, ValueError, TypeError, AttributeError):
            return cls()

    def write(self, path: Path) -> None:
        """Write the cache file if there are new headers."""
        if self.is_new:
            write_atomically(path, json.dumps(self.seen))
            self.is_new = False

    def look(self, files: Iterable[Path]) -> tuple[dict[str, Seen], list[str]]:
        """Header and checksum of the files, by path; and one sentence for each file that cannot be used.

        A file is opened only if the cache does not hold it with its present size and time of change.
        """
        seen: dict[str, Seen] = {}
        unknown: dict[str, tuple[Path, int, int]] = {}
        for file in files:
            name = str(file)
            if name in seen or name in unknown:
                continue
            try:
                status = file.stat()
                size, changed = status.st_size, status.st_mtime_ns
            except (OSError, ValueError):
                # `_open` below reports what is wrong with it.
                size, changed = -1, -1
            cached = self.seen.get(name)
            if cached is not None and cached[:2] == (size, changed):
                seen[name] = cached
            else:
                unknown[name] = file, size, changed
        problems = []
        with ThreadPoolExecutor(usable_cores()) as pool:
            answers = pool.map(_open, (file for file, _, _ in unknown.values()))
            for (name, (_, size, changed)), answer in zip(unknown.items(), answers, strict=True):
                if isinstance(answer, UserError):
                    problems.append(str(answer))
                else:
                    header, checksum = answer
                    seen[name] = self.seen[name] = (size, changed, *astuple(header), checksum)
                    self.is_new = True
        return seen, problems


def _open(file: Path) -> tuple[Header, str] | UserError:
    try:
        return read_header(file), _checksum(file)
    except UserError as error:
        return error
    except OSError as error:
        return UserError(f"{file} cannot be read ({error.strerror})")


def _checksum(file: Path) -> str:
    import xxhash

    content = xxhash.xxh3_128()
    with file.open("rb") as opened:
        while block := opened.read(_BLOCK_BYTES):
            content.update(block)
    return content.hexdigest()
