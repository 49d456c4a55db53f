"""Shared by the origins of the detection tasks: BEANS' 60-s chunks, and reading of audio and annotation files.

pandas is imported inside functions, because it is slow to import and most commands do not need it.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.prepare.entries import CHUNK_SECONDS, RecordingEntry, Sound, ids_of
from tasks.sound import Header, read_header, resampled_length
from tasks.support.errors import UserError
from tasks.task import Split

if TYPE_CHECKING:
    import pandas as pd

Span = tuple[float, float, str]
"""Start and end in seconds, and label."""


def chunk_lengths(samples: int, rate: int) -> list[float]:
    """Return the lengths in seconds of the 60-s chunks of ``samples`` samples. Only the last may be shorter."""
    size = int(CHUNK_SECONDS) * rate
    return [min(size, samples - start) / rate for start in range(0, samples, size)]


def divide(annotations: Iterable[Span], count: int) -> list[list[Span]]:
    """Return the annotations of each of the first ``count`` chunks, in seconds from the chunk's start.

    An annotation is clipped to every chunk that it touches. If it ends exactly where a chunk starts, that chunk gets an
    annotation of length 0. An annotation that ends before it starts is kept if both times are in one chunk, else lost.
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
    """Return the split of chunk ``index`` of ``count``, and whether it is low. Each recording is in all splits."""
    position = index / count
    if position < 0.6:
        return "train", position < 0.12
    return ("valid" if position < 0.8 else "test"), False


def cut(task: str, file: Path, rate: int, annotations: Iterable[Span]) -> list[RecordingEntry]:
    """Return all 60-s chunks of a recording, with the split "train". The caller sets the correct split.

    Args:
        task: the task's name, for the ids.
        file: the recording, of any native rate.
        rate: BEANS resamples the recording to this rate (Hz) before it cuts.
        annotations: in seconds from the start of the recording. Annotations outside the recording are dropped.

    Raises:
        UserError: the file is missing, empty, truncated or not audio.
    """
    header = sound_header(file)
    lengths = chunk_lengths(resampled_length(header.frames, header.sample_rate, rate), rate)
    chunks, ids = [], ids_of(task)
    for index, (length, local) in enumerate(zip(lengths, divide(annotations, len(lengths)), strict=True)):
        name = ids.item(f"{file.stem}.{index:03d}.wav")
        start = index * CHUNK_SECONDS
        seconds = min(CHUNK_SECONDS, (header.frames - start * header.sample_rate) / header.sample_rate)
        sound = Sound(file, start, seconds)
        chunks.append(RecordingEntry(name, "train", length, tuple(local), sound, ids.recording_of(name)))
    return chunks


def sound_header(file: Path) -> Header:
    """Read the header of a recording.

    Raises:
        UserError: the file is missing, empty, truncated or not audio.
    """
    try:
        return read_header(file)
    except UserError as error:
        raise UserError(f"{error}: download and extract it again.") from error


def find_audio(root: Path, pattern: str) -> list[Path]:
    """Return the files below ``root`` whose path ends with ``pattern`` ("Train/*.wav"), sorted by name.

    Some splits depend on this order. The order by name does not depend on the directory into which an archive was
    extracted. The suffix is part of the name, as in BEANS: "a-b.wav" comes before "a.wav".
    """
    # The folder of the pattern may be the root itself, also if the root is given as ".".
    root = root.resolve()
    files = [file for file in root.rglob(Path(pattern).name) if file.match(pattern) and file.is_file()]
    # macOS writes extra files with the same names.
    return sorted(
        (file for file in files if "__MACOSX" not in file.parts and not file.name.startswith("._")),
        key=lambda file: file.name,
    )


def read_table(file: Path, times: Sequence[str], others: Sequence[str] = (), separator: str = ",") -> "pd.DataFrame":
    """Read an annotation table with pandas. Check that the columns ``times`` hold finite seconds.

    Raises:
        UserError: the table or a column is missing, or a time is not a number.
    """
    import pandas as pd

    try:
        table = pd.read_csv(file, sep=separator)
    except (OSError, ValueError) as error:
        # pandas raises ValueErrors for broken tables, and some of its messages have several lines.
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
    """Return at most three of the names and the number of the others, for a message."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
