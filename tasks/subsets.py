"""Smaller manifests: for a quick look, BEANS' few-label split, k examples per class. Equal on every machine."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace

from tasks.manifest import manifest_files
from tasks.support.errors import UserError
from tasks.task import Item, Manifest, Task
from tasks.train_part import TrainPart


def limit(manifest: Manifest, n: int) -> Manifest:
    """Return a smaller manifest for a quick look. Every call on every machine returns the same one.

    Classification keeps at most ``n`` items per split, as evenly over the labels as possible and spread over each
    label's items. Detection keeps whole recordings with at most ``n`` windows in total; recordings with new labels come
    first. The first recording is always kept, so that no split is empty. The list of labels does not change.

    Raises:
        UserError: ``n`` is not positive.
    """
    if n < 1:
        raise UserError(f"The limit of items per split must be at least 1, not {n}.")
    pick = _spread_over_labels if manifest.task.kind == "classification" else _whole_recordings
    return replace(manifest, items={split: pick(items, n) for split, items in manifest.items.items()})


def select_train(manifest: Manifest, part: TrainPart) -> Manifest:
    """Return the manifest with a part of its train split.

    Raises:
        UserError: the task has no such part.
    """
    if part.shots is not None:
        return shots(manifest, part.shots, part.seed)
    return few_labels(manifest) if part.low else manifest


def few_labels(manifest: Manifest) -> Manifest:
    """Return the manifest with BEANS' few-label subset of the train split.

    Raises:
        UserError: the task, or the copy that it was prepared from, has no such subset.
    """
    low = tuple(item for item in manifest.items["train"] if item.low)
    if not low:
        raise UserError(f"Task {manifest.task.name} has no few-label split: {_why_no_low(manifest.task)}.")
    return _with_train(manifest, low)


def _why_no_low(task: Task) -> str:
    """Return why a task has no few-label split, and what to do instead."""
    if task.no_few_labels:
        return f"{task.no_few_labels}; use --shots"
    if task.has_own_files:
        mark = "1 in the column `low`" if task.kind == "classification" else '`"low": true`'
        return f"mark what is to be in it with {mark} in {next(iter(manifest_files(task).values()))}, or use --shots"
    if task.prepare is None or task.group == "own":
        return "the source that it was prepared from has none; use --shots"
    return (
        f"the copy that it was prepared from lacks it; prepare it --from {task.prepare.source} --again, or use --shots"
    )


def shots(manifest: Manifest, k: int, seed: int = 0) -> Manifest:
    """Return the manifest with ``k`` train items per class, or all items of a class that has fewer.

    A detection task also keeps windows without any label: ``k`` times the number of classes. Items are drawn from as
    many different recordings as possible. The draw for a smaller ``k`` is part of the draw for a larger one.
    """
    if k < 1:
        raise UserError(f"The number of shots must be at least 1, not {k}.")
    train = manifest.items["train"]
    kept: set[str] = set()
    for label in range(len(manifest.labels)):
        kept |= _draw((item for item in train if label in item.labels), k, f"{seed}/{manifest.labels[label]}")
    if manifest.task.kind == "detection":
        kept |= _draw((item for item in train if not item.labels), k * len(manifest.labels), f"{seed}//")
    return _with_train(manifest, tuple(item for item in train if item.id in kept))


def _draw(candidates: Iterable[Item], k: int, seed: str) -> set[str]:
    # Sorted, so that the order of the files has no effect. A seed of text gives the same draw on every machine.
    shuffled = sorted(candidates, key=lambda item: item.id)
    random.Random(seed).shuffle(shuffled)
    drawn: Counter[str] = Counter()
    rounds = []
    for item in shuffled:
        rounds.append(drawn[item.recording])
        drawn[item.recording] += 1
    order = sorted(range(len(shuffled)), key=lambda place: rounds[place])
    return {shuffled[place].id for place in order[:k]}


def _with_train(manifest: Manifest, train: tuple[Item, ...]) -> Manifest:
    return replace(manifest, items={**manifest.items, "train": train})


def _spread_over_labels(items: tuple[Item, ...], n: int) -> tuple[Item, ...]:
    places: dict[int, list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        places[item.labels[0]].append(place)
    quota = dict.fromkeys(sorted(places), 0)
    for _ in range(min(n, len(items))):
        unexhausted = (label for label in quota if quota[label] < len(places[label]))
        quota[min(unexhausted, key=lambda label: quota[label])] += 1
    kept = [own[step * len(own) // quota[label]] for label, own in places.items() for step in range(quota[label])]
    return tuple(items[place] for place in sorted(kept))


def _whole_recordings(items: tuple[Item, ...], n: int) -> tuple[Item, ...]:
    windows: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        windows[_recording(item)].append(item)
    labels = {name: {label for item in own for label in item.labels} for name, own in windows.items()}
    kept: set[str] = set()
    total, unseen, waiting = 0, set().union(*labels.values()), list(windows)
    while waiting:
        # After all labels are seen, the recordings are taken in file order.
        name = max(waiting, key=lambda name: len(labels[name] & unseen)) if unseen else waiting[0]
        waiting.remove(name)
        if not kept or total + len(windows[name]) <= n:
            kept.add(name)
            total += len(windows[name])
            unseen -= labels[name]
    return tuple(item for item in items if _recording(item) in kept)


def _recording(window: Item) -> str:
    """Return the recording, or the 60-s chunk of it, from which a window was cut."""
    return window.id.rpartition("@")[0]
