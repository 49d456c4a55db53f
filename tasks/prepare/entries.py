"""The items of a data set as the sources read them: labels, splits, and the place of each item's sound."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.task import Ids, Split, load_task

if TYPE_CHECKING:
    from tasks.sound import Content

CHUNK_SECONDS = 60.0
"""BEANS cuts long recordings into chunks of this length, in seconds."""


@dataclass(frozen=True, slots=True)
class Sound:
    """The place of an item's sound.

    Attributes:
        file: the audio file, or a function that reads the audio from inside another file.
        start: start of the item in the file, in seconds.
        seconds: length of the item, or None for the rest of the file.
    """

    file: "Path | Callable[[], Content]"
    start: float = 0.0
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class ClipEntry:
    """One clip of a classification task. Every copy of the data set gives the same ``id``."""

    id: str
    split: Split
    label: str
    sound: Sound
    recording: str
    low: bool = False


@dataclass(frozen=True, slots=True)
class RecordingEntry:
    """One recording of a detection task, or one 60-s chunk of a longer one.

    Attributes:
        length: in seconds, at the rate that BEANS gives the task.
        annotations: start, end (seconds from the recording's start) and label, unchanged from the source.
    """

    id: str
    split: Split
    length: float
    annotations: tuple[tuple[float, float, str], ...]
    sound: Sound
    recording: str
    low: bool = False


Entry = ClipEntry | RecordingEntry


def label_text(label: object) -> str:
    """Return a label as text: 3, 3.0 and "3" are the same class."""
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)


@cache
def ids_of(task: str) -> Ids:
    """Return the rule for the ids of a catalogue task."""
    return load_task(task, data=Path()).ids


def index_by_name(root: Path, suffix: str) -> dict[str, Path]:
    """Return all files below ``root`` with ``suffix`` (dot included, any case), by their name without suffix."""
    files = (path for path in sorted(root.rglob("*")) if path.suffix.lower() == suffix and path.is_file())
    return {path.stem: path for path in files if "__MACOSX" not in path.parts}


def unique(entries: Iterable[Entry]) -> list[Entry]:
    """Return the entries sorted by id, so that all copies of a data set give the same order.

    BEANS keeps all rows of a table. If several rows have one id, a number is added from its second use on.
    """
    ordered = sorted(entries, key=lambda entry: (entry.id, entry.split, getattr(entry, "label", "")))
    uses: Counter[str] = Counter()
    numbered: list[Entry] = []
    for entry in ordered:
        uses[entry.id] += 1
        numbered.append(replace(entry, id=f"{entry.id}~{uses[entry.id]}") if uses[entry.id] > 1 else entry)
    return numbered
