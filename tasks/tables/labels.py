"""The labels of a task: their order, labels that differ only in how they are written, and splits without one."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping

from tasks.support.errors import UserError
from tasks.support.text import short
from tasks.task import SPLITS, Item, Manifest, Split, Task

MOST_LABELS = 10_000
"""Maximum number of labels of a task: a probe holds a vector for each label, each layer and each learning rate."""

# Characters that take no place on a screen, and blanks that Unicode does not count as spaces.
_INVISIBLE = re.compile(
    "[\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]"
)
# A warning names this many labels at most.
_NAMED = 5


def index_labels(task: Task, train: Iterable[str], places: Mapping[str, str]) -> dict[str, int]:
    """Return the index of every label: the labels of the task file, in its order, or else the sorted ones of train.

    Args:
        task: the task of the labels.
        train: every label of the train split.
        places: where each label of any split is written first.

    Raises:
        UserError: two labels of a user's own task differ only in how they are written, or there are too many labels.
    """
    if task.group == "own":
        _refuse_alike({**dict.fromkeys(task.labels or (), "`labels` in the task file"), **places}, task.labels or ())
    names = task.labels if task.labels is not None else sorted(set(train))
    if len(names) > MOST_LABELS:
        raise UserError(
            f"Task {task.name} has {len(names)} labels, and {MOST_LABELS} are the most: a label names a class, such as"
            " a species, and not a file or a call."
        )
    return {name: index for index, name in enumerate(names)}


def find_label(label: str, index: Mapping[str, int], task: Task, where: str) -> int:
    """Return the index of a label.

    Raises:
        UserError: it has none.
    """
    if label not in index and task.unknown_label is not None:
        label = task.unknown_label
    if label not in index:
        source = "the labels of the task file" if task.labels is not None else "the labels of the train split"
        raise UserError(f"{where}: label {short(label)} is not among {source}; correct it, or list it under `labels`.")
    return index[label]


def _refuse_alike(places: Mapping[str, str], listed: Iterable[str]) -> None:
    """Raise a UserError if two labels differ only in spaces, invisible characters, accents' encoding or capitals."""
    listed = set(listed)
    first: dict[str, str] = {}
    for label, place in places.items():
        # An invisible character in the middle of a label may stand for a space or for nothing.
        for key in {_key(_INVISIBLE.sub(" ", label)), _key(_INVISIBLE.sub("", label))}:
            other = first.setdefault(key, label)
            if other != label:
                earlier = "`labels` in the task file" if other in listed else places[other]
                raise UserError(
                    f"{place}: label {_seen(label)} differs from {_seen(other)} ({earlier}) only in"
                    f" {_difference(label, other)}; write both in the same way."
                )


def _key(label: str) -> str:
    """Return what two labels share that a reader cannot, or should not, tell apart."""
    return " ".join(_folded(label).split())


def _folded(label: str) -> str:
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", label).casefold())


def _seen(label: str) -> str:
    """Return a label in quotes, so that invisible characters and the encoding of accents are seen."""
    return short(label) if label == unicodedata.normalize("NFC", label) else ascii(label)[:80]


def _difference(one: str, other: str) -> str:
    if unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other):
        return "how its accents are encoded (one or two characters for a letter with its accent)"
    return "capital letters" if _folded(one) == _folded(other) else "spaces or invisible characters"


def refuse_empty_splits(manifest: Manifest) -> None:
    """Raise a UserError if a split of a detection task has no positive window: no score of it means anything."""
    for split, items in manifest.items.items():
        if not any(item.labels for item in items):
            raise UserError(
                f"{manifest.task.root / getattr(manifest.task, split)} gives the {split} split no window with a label:"
                " it has no annotation, or none that makes a window positive (those of length 0 do not); annotate it,"
                " or move recordings with annotations into it."
            )


def absent_labels(manifest: Manifest) -> Iterator[str]:
    """Yield a sentence for every split that lacks labels which the task has."""
    for split in SPLITS:
        present = _present(manifest.items[split])
        missing = [label for index, label in enumerate(manifest.labels) if index not in present]
        if missing:
            more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
            yield (
                f"the {split} split has nothing with the label {', '.join(map(short, missing[:_NAMED]))}{more}:"
                f" {_consequence(manifest.task, split)}"
            )


def _present(items: Iterable[Item]) -> set[int]:
    return {label for item in items for label in item.labels}


def _consequence(task: Task, split: Split) -> str:
    if split == "train":
        return "no probe can learn it"
    if task.kind == "detection":
        return f"it counts with an average precision of 0 in the {split} score"
    return f"the {split} score says nothing about it"
