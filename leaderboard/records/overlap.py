"""What a submission heard of a task before it was measured. It is disclosed in words and never costs a rank."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from tasks.collections import drawn_from

# Records are anybody's: a name as long as a book must not keep the board busy.
_LONGEST_TEXT = 2000
_LONGEST_NAME = 8
_LONGEST_WORDS = 200


@dataclass(frozen=True, slots=True)
class Heard:
    """One data set that the weights have seen, the collections that its submitter says it is drawn from, its domain."""

    data: str
    collections: tuple[str, ...] = ()
    domain: str = ""


# What `pretraining = []` says: something else than to say nothing.
NOTHING = Heard("nothing", domain="none")


def heard(about: Mapping[str, object]) -> tuple[Heard, ...]:
    """The data sets in a record's ``about``; what is not written as a submission file writes it is passed over.

    `NOTHING` where it is stated that there are none; nothing at all where nothing is stated.
    """
    entries = about.get("pretraining")
    if isinstance(entries, list | tuple) and not entries:
        return (NOTHING,)
    found = []
    for entry in entries if isinstance(entries, list | tuple) else ():
        if isinstance(entry, Mapping) and isinstance(entry.get("data"), str):
            names = entry.get("collections")
            drawn = [name for name in names if isinstance(name, str)] if isinstance(names, list | tuple) else []
            found.append(Heard(entry["data"], tuple(drawn), short(entry.get("domain"))))
    return tuple(found)


def short(value: object) -> str:
    """What a record says in a word or two, on one line and not long; "" where it says nothing of the kind."""
    return " ".join(value[:_LONGEST_TEXT].split())[:_LONGEST_WORDS] if isinstance(value, str) else ""


def overlap(pretraining: Iterable[Heard], task: str, collections: Sequence[str]) -> tuple[str, ...]:
    """Why a submission has an advantage on a task: one reason for each data set that shares a collection with it.

    Args:
        pretraining: what the submission has heard.
        task: the task's name.
        collections: what the task's sounds come from.

    Returns:
        For example ``("pretrained on FSD50K, which like esc50 is drawn from Freesound",)``; nothing where nothing is
        known to be shared.
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


def known_collections(data: str) -> tuple[str, ...]:
    """The collections that the data sets named in ``data`` are known to be drawn from."""
    named = _names(data)
    return tuple(dict.fromkeys(name for key, drawn in drawn_from().items() if _plain(key) in named for name in drawn))


# A board asks for the same few submissions on every task.
@lru_cache(maxsize=1024)
def _sources(entry: Heard) -> set[str]:
    """Every plain name that the entry gives or implies."""
    found: set[str] = set()
    waiting = [entry.data, *entry.collections]
    while waiting:
        text = waiting.pop()
        fresh = _names(text) - found
        found |= fresh
        waiting += known_collections(text) if fresh else ()
    return found


def _names(text: str) -> set[str]:
    """Every run of words in ``text`` as a plain name: "AudioSet and FSD-50K" names audioset and fsd50k."""
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
