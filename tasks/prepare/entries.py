"""The items of a data set as every source reads them: labels, splits, and where the sound of each is."""

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
"""Length of the pieces that BEANS cuts long recordings into."""


@dataclass(frozen=True, slots=True)
class Sound:
    """Where the sound of an item is.

    Attributes:
        file: the audio file; or, where it is inside another file, a function that reads it.
        start: of the item in the file, in seconds.
        seconds: length of the item, or None for all that follows ``start``.
    """

    file: "Path | Callable[[], Content]"
    start: float = 0.0
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip of a classification task. ``id`` is the same whichever copy it was read from."""

    id: str
    split: Split
    label: str
    sound: Sound
    recording: str
    low: bool = False


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording of a detection task, or one 60-s chunk of a longer one.

    Attributes:
        length: in seconds, at the rate that BEANS gives the task.
        annotations: start, end (seconds from the recording's start) and label, as the source has them.
    """

    id: str
    split: Split
    length: float
    annotations: tuple[tuple[float, float, str], ...]
    sound: Sound
    recording: str
    low: bool = False


Entry = Clip | Recording


def label_text(label: object) -> str:
    """A label as text: 3, 3.0 and "3" are the same class, whichever library read them."""
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)


@cache
def ids_of(task: str) -> Ids:
    """How the items of a catalogue task are called."""
    return load_task(task, data=Path()).ids


def index_by_name(root: Path, suffix: str) -> dict[str, Path]:
    """All files below ``root`` with that suffix (with its dot, in any case) by their name without it."""
    files = (path for path in sorted(root.rglob("*")) if path.suffix.lower() == suffix and path.is_file())
    return {path.stem: path for path in files if "__MACOSX" not in path.parts}


def unique(entries: Iterable[Entry]) -> list[Entry]:
    """The entries in the order that every copy gives them: by id.

    A name that several rows of a table share is numbered from its second use on, because BEANS keeps all rows.
    """
    ordered = sorted(entries, key=lambda entry: (entry.id, entry.split, getattr(entry, "label", "")))
    uses: Counter[str] = Counter()
    numbered: list[Entry] = []
    for entry in ordered:
        uses[entry.id] += 1
        numbered.append(replace(entry, id=f"{entry.id}~{uses[entry.id]}") if uses[entry.id] > 1 else entry)
    return numbered
