"""Overlap of a submission's pretraining data with a task. It is disclosed in words and does not change a rank."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from tasks.collections import drawn_from
from tasks.task import Task

# Anybody can write a record: a very long name must not slow down the board. Characters, words, characters.
_LONGEST_TEXT = 2000
_LONGEST_NAME = 8
_LONGEST_WORDS = 200


@dataclass(frozen=True, slots=True)
class PretrainingData:
    """One data set of the pretraining, the collections that its submitter states for it, and its domain."""

    data: str
    collections: tuple[str, ...] = ()
    domain: str = ""


# The meaning of `pretraining = []`. A submission without the key states nothing.
NOTHING = PretrainingData("nothing", domain="none")


def pretraining_data(about: Mapping[str, object]) -> tuple[PretrainingData, ...]:
    """The pretraining data sets in a record's ``about``. Entries in another form than a submission file's are skipped.

    Only `NOTHING` if the submission states that there are none; empty if it states nothing.
    """
    entries = about.get("pretraining")
    if isinstance(entries, list | tuple) and not entries:
        return (NOTHING,)
    data = []
    for entry in entries if isinstance(entries, list | tuple) else ():
        if isinstance(entry, Mapping) and isinstance(entry.get("data"), str):
            names = entry.get("collections")
            drawn = [name for name in names if isinstance(name, str)] if isinstance(names, list | tuple) else []
            data.append(PretrainingData(entry["data"], tuple(drawn), short(entry.get("domain"))))
    return tuple(data)


def short(value: object) -> str:
    """A short text of a record on one line, cut if it is too long; "" if ``value`` is no text."""
    return " ".join(value[:_LONGEST_TEXT].split())[:_LONGEST_WORDS] if isinstance(value, str) else ""


def overlap(pretraining: Iterable[PretrainingData], task: str, collections: Sequence[str]) -> tuple[str, ...]:
    """Why a submission has an advantage on a task: one reason per data set that shares a collection with the task.

    Args:
        pretraining: the pretraining data of the submission.
        task: the task's name.
        collections: the collections that the task's sounds come from.

    Returns:
        For example ``("pretrained on FSD50K, which like esc50 is drawn from Freesound",)``; empty if no shared
        collection is known.
    """
    reasons = []
    for entry in pretraining:
        sources = _sources(entry)
        shared = [name for name in collections if _plain(name) in sources]
        if any(_plain(name) == _plain(entry.data) for name in shared):
            reasons.append(f"pretrained on {entry.data}, from which {task} is drawn")
        elif shared:
            reasons.append(f"pretrained on {entry.data}, which like {task} is drawn from {shared[0]}")
    return tuple(dict.fromkeys(reasons))


def overlaps(about: Mapping[str, object], tasks: Iterable[Task]) -> list[str]:
    """The reasons of `overlap` for a submission's table ``[about]`` and every task."""
    pretraining = pretraining_data(about)
    return [reason for task in tasks for reason in overlap(pretraining, task.name, task.facts.collections)]


def known_collections(data: str) -> tuple[str, ...]:
    """The collections that the data sets named in ``data`` are known to be drawn from."""
    named = _names(data)
    return tuple(dict.fromkeys(name for key, drawn in drawn_from().items() if _plain(key) in named for name in drawn))


# Cached, because a board needs the same few submissions on every task.
@lru_cache(maxsize=1024)
def _sources(entry: PretrainingData) -> set[str]:
    """Every plain name that the entry contains or implies."""
    names: set[str] = set()
    waiting = [entry.data, *entry.collections]
    while waiting:
        text = waiting.pop()
        fresh = _names(text) - names
        names |= fresh
        waiting += known_collections(text) if fresh else ()
    return names


def _names(text: str) -> set[str]:
    """Every sequence of words in ``text`` as a plain name: "AudioSet and FSD-50K" gives audioset and fsd50k."""
    words = _words(text[:_LONGEST_TEXT])
    return {
        "".join(words[start:end])
        for start in range(len(words))
        for end in range(start + 1, min(start + _LONGEST_NAME, len(words)) + 1)
    }


def _plain(name: str) -> str:
    return "".join(_words(name))


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())
