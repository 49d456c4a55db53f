"""Smaller manifests, the same on every machine: a quick look, BEANS' few-label split, k examples a class."""

from collections import defaultdict
from pathlib import Path

from tasks.errors import UserError
from tasks.task import Item, Manifest


def limit(manifest: Manifest, n: int) -> Manifest:
    """A smaller manifest for a quick look: the same one on every call and every machine.

    Classification keeps at most ``n`` items a split, as evenly over the labels as they allow and spread over each
    label's items. Detection keeps whole recordings, those with labels not yet seen first, while their windows number
    at most ``n``; the first is kept whatever its length, so that no split is empty. The label list stays as it is.

    Raises:
        UserError: ``n`` is not positive.
    """
    if n < 1:
        raise UserError(f"The limit of items a split must be at least 1, not {n}.")
    pick = _spread_over_labels if manifest.task.kind == "classification" else _whole_recordings
    return Manifest(manifest.task, manifest.labels, {split: pick(items, n) for split, items in manifest.items.items()})


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
    windows: dict[Path, list[Item]] = defaultdict(list)
    for item in items:
        windows[item.path].append(item)
    labels = {path: {label for item in own for label in item.labels} for path, own in windows.items()}
    kept: set[Path] = set()
    total, unseen, waiting = 0, set().union(*labels.values()), list(windows)
    while waiting:
        # Once every label is seen all are equal, and max takes the first: file order.
        path = max(waiting, key=lambda path: len(labels[path] & unseen)) if unseen else waiting[0]
        waiting.remove(path)
        if not kept or total + len(windows[path]) <= n:
            kept.add(path)
            total += len(windows[path])
            unseen -= labels[path]
    return tuple(item for item in items if item.path in kept)
