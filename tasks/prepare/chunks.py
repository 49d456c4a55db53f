"""What the origins of the detection tasks share: BEANS' 60-s chunks, and finding and reading audio and annotations.

pandas is imported inside: the command line reads nothing of it before it prepares a data set.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.prepare.entries import CHUNK_SECONDS, Recording, Sound, ids_of
from tasks.sound import Header, read_header
from tasks.support.errors import UserError
from tasks.task import Split

if TYPE_CHECKING:
    import pandas as pd

Span = tuple[float, float, str]
"""Start and end in seconds, and label."""


def count_samples(header: Header, rate: int) -> int:
    """Samples of a file once it is resampled to ``rate`` Hz: as many as torchaudio's resampling gives, rounded up."""
    # In whole numbers: a recording of hours has more samples than rounding would leave exact.
    return -(-header.frames * rate // header.sample_rate)


def chunk_lengths(samples: int, rate: int) -> list[float]:
    """Lengths in seconds of the 60-s chunks of so many samples at ``rate`` Hz; only the last may be shorter."""
    size = int(CHUNK_SECONDS) * rate
    return [min(size, samples - start) / rate for start in range(0, samples, size)]


def divide(annotations: Iterable[Span], count: int) -> list[list[Span]]:
    """The annotations of each of the first ``count`` chunks, in seconds from the chunk's start.

    An annotation is clipped to every chunk it touches; one that ends exactly where a chunk starts leaves an annotation
    without length there. One that ends before it starts is kept as it is within a chunk, and lost across chunks.
    """
    chunks: list[list[Span]] = [[] for _ in range(count)]
    for st, ed, label in annotations:
        first, last = int(st // CHUNK_SECONDS), int(ed // CHUNK_SECONDS)
        for index in range(max(first, 0), min(last, count - 1) + 1):
            offset = index * CHUNK_SECONDS
            local_st = st - offset if index == first else 0.0
            local_ed = ed - offset if index == last else CHUNK_SECONDS
            chunks[index].append((local_st, local_ed, label))
    return chunks


def split_by_position(index: int, count: int) -> tuple[Split, bool]:
    """Split of chunk ``index`` of ``count`` where each recording gives chunks to all three, and whether it is low."""
    position = index / count
    if position < 0.6:
        return "train", position < 0.12
    return ("valid" if position < 0.8 else "test"), False


def cut(task: str, file: Path, rate: int, annotations: Iterable[Span]) -> list[Recording]:
    """All 60-s chunks of a recording, as of the train split; the caller knows the split.

    Args:
        task: the task's name, for the ids.
        file: the recording, of any native rate.
        rate: Hz that BEANS resamples it to before it cuts.
        annotations: in seconds from the start of the recording; those outside it are dropped.

    Raises:
        UserError: the file is missing, empty, truncated or not audio.
    """
    header = sound_header(file)
    lengths = chunk_lengths(count_samples(header, rate), rate)
    chunks, ids = [], ids_of(task)
    for index, (length, local) in enumerate(zip(lengths, divide(annotations, len(lengths)), strict=True)):
        name = ids.item(f"{file.stem}.{index:03d}.wav")
        start = index * CHUNK_SECONDS
        seconds = min(CHUNK_SECONDS, (header.frames - start * header.sample_rate) / header.sample_rate)
        sound = Sound(file, start, seconds)
        chunks.append(Recording(name, "train", length, tuple(local), sound, ids.recording_of(name)))
    return chunks


def sound_header(file: Path) -> Header:
    """The header of a recording.

    Raises:
        UserError: the file is missing, empty, truncated or not audio.
    """
    try:
        return read_header(file)
    except UserError as error:
        raise UserError(f"{error}: download and extract it again.") from error


def find_audio(root: Path, pattern: str) -> list[Path]:
    """Files below ``root`` whose path matches ``pattern`` at its end ("Train/*.wav"), sorted by name.

    By name and not by path: where splits go by order, the depth at which somebody extracted an archive must not change
    them. With the suffix, as BEANS sorts: "a-b.wav" comes before "a.wav".
    """
    # Resolved, so that the folder of the pattern may be the root itself, also where it is given as a dot.
    root = root.resolve()
    files = [file for file in root.rglob(Path(pattern).name) if file.match(pattern) and file.is_file()]
    # What macOS leaves beside files is named like them.
    return sorted(
        (file for file in files if "__MACOSX" not in file.parts and not file.name.startswith("._")),
        key=lambda file: file.name,
    )


def read_table(file: Path, times: Sequence[str], others: Sequence[str] = (), separator: str = ",") -> "pd.DataFrame":
    """An annotation table as pandas reads it, with the columns ``times`` checked to be finite seconds.

    Raises:
        UserError: no such table, a column that is missing, or a time that is not a number.
    """
    import pandas as pd

    try:
        table = pd.read_csv(file, sep=separator)
    except (OSError, ValueError) as error:
        # What pandas raises for broken tables are ValueErrors, and some of its messages have several lines.
        reason = " ".join(str(error).split())
        raise UserError(f"{file} cannot be read as a table ({reason}): download and extract it again.") from error
    for column in (*times, *others):
        if column not in table.columns:
            raise UserError(
                f"{file} has no column {column!r} but {', '.join(map(repr, table.columns))}: "
                "this is not the annotation table that BEANS reads; download and extract it again."
            )
    for column in times:
        seconds = pd.to_numeric(table[column], errors="coerce")
        for number, (value, second) in enumerate(zip(table[column], seconds, strict=True), start=1):
            if not math.isfinite(second):
                raise UserError(
                    f"{file}, annotation {number}: {column!r} is {value}, which is no time in seconds: "
                    "download and extract the file again, or correct it."
                )
        table[column] = seconds.astype(float)
    return table


def few(names: Sequence[str]) -> str:
    """So many names that a message stays readable."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
