"""The layer curves of many records at once: how the test score runs from the first layer to the last."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from pydantic import BaseModel

from leaderboard.database.cache import Latest
from leaderboard.database.store import Store, StoredDocument, Version

# Databases bound how many values one statement may hold.
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Curve:
    """What one record says of its layers.

    Attributes:
        best_layer: index of the layer that validation chose.
        indices: (layers,) of all layers, ascending; 0 is the input of the first block.
        names: (layers,) what the backbone calls them.
        tests: (layers,) test score of each.
    """

    best_layer: int
    indices: tuple[int, ...]
    names: tuple[str, ...]
    tests: tuple[float, ...]

    @property
    def last(self) -> int:
        """Index of the last layer."""
        return self.indices[-1] if self.indices else 0

    @property
    def depths(self) -> tuple[float, ...]:
        """(layers,) where each layer lies between the first (0) and the last (1); empty for a single layer."""
        return tuple(index / self.last for index in self.indices) if self.last else ()

    @property
    def depth(self) -> float | None:
        """Where the chosen layer lies, or None for a single layer."""
        return self.best_layer / self.last if self.last else None


class _Layer(BaseModel):
    index: int
    name: str
    test: float


class _Document(BaseModel):
    """Of a record only what a curve needs: reading all of it takes ten times as long."""

    best_layer: int
    layers: list[_Layer]


_latest: WeakKeyDictionary[Store, Latest[tuple[Version, tuple[str, ...]], dict[str, Curve]]] = WeakKeyDictionary()


def read_curves(store: Store, record_ids: Iterable[str]) -> dict[str, Curve]:
    """The curves of these records by id, without those that are not in the store.

    What was read last from a store is kept until it changes, since a page is drawn many times.
    """
    asked = tuple(record_ids)
    latest = _latest.setdefault(store, Latest())
    return latest.get((store.version(), asked), lambda: _read(store, asked))


def _read(store: Store, record_ids: tuple[str, ...]) -> dict[str, Curve]:
    found: dict[str, Curve] = {}
    columns = (StoredDocument.record_id, StoredDocument.document)
    with store.transaction() as connection:
        for start in range(0, len(record_ids), _AT_ONCE):
            some = record_ids[start : start + _AT_ONCE]
            for record_id, document in connection.execute(sa.select(*columns).where(columns[0].in_(some))):
                found[record_id] = _curve(_Document.model_validate_json(document))
    return found


def _curve(document: _Document) -> Curve:
    layers = sorted(document.layers, key=lambda layer: layer.index)
    return Curve(
        document.best_layer,
        tuple(layer.index for layer in layers),
        tuple(layer.name for layer in layers),
        tuple(layer.test for layer in layers),
    )


def median_curve(curves: Sequence[Curve], depths: Sequence[float]) -> NDArray[np.float64]:
    """(depths,) the median over curves of the test score at each depth, linear between two layers.

    Args:
        curves: at least one, each of two layers or more.
        depths: from 0 to 1.
    """
    return np.median([np.interp(depths, curve.depths, curve.tests) for curve in curves], axis=0)
