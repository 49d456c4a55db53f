"""The layer curves of many records: the test score from the first layer to the last."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from pydantic import BaseModel

from leaderboard.database.cache import Latest
from leaderboard.database.store import Store, StoredDocument, Version

# Records per statement: databases limit the number of values in one statement.
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Curve:
    """The layers of one record.

    Attributes:
        best_layer: index of the layer that was chosen on validation.
        indices: (layers,) index per layer, ascending; 0 is the input of the first block.
        names: (layers,) name per layer, as the backbone names it.
        tests: (layers,) test score per layer.
        alike: the layers that validation cannot tell apart from the best one; None if the record does not state them.
    """

    best_layer: int
    indices: tuple[int, ...]
    names: tuple[str, ...]
    tests: tuple[float, ...]
    alike: tuple[int, ...] | None = None

    @property
    def last(self) -> int:
        """Index of the last layer."""
        return self.indices[-1] if self.indices else 0

    @property
    def depths(self) -> tuple[float, ...]:
        """(layers,) relative depth per layer, from 0 (first) to 1 (last); empty for a single layer."""
        return tuple(index / self.last for index in self.indices) if self.last else ()

    @property
    def depth(self) -> float | None:
        """Relative depth of the chosen layer; None for a single layer."""
        return self.best_layer / self.last if self.last else None


class _Layer(BaseModel):
    index: int
    name: str
    test: float


class _Selection(BaseModel):
    alike: tuple[int, ...]


class _Document(BaseModel):
    """The part of a record that a curve needs. Reading the whole record takes ten times as long."""

    best_layer: int
    layers: list[_Layer]
    selection: _Selection | None = None


_latest: WeakKeyDictionary[Store, Latest[tuple[Version, tuple[str, ...]], dict[str, Curve]]] = WeakKeyDictionary()


def read_curves(store: Store, record_ids: Iterable[str]) -> dict[str, Curve]:
    """Read the curves of these records, by id. Records that are not in the store are left out.

    The last result per store is cached until the store changes, since a page is drawn many times.
    """
    ids = tuple(record_ids)
    latest = _latest.setdefault(store, Latest())
    return latest.get((store.version(), ids), lambda: _read(store, ids))


def _read(store: Store, record_ids: tuple[str, ...]) -> dict[str, Curve]:
    curves: dict[str, Curve] = {}
    columns = (StoredDocument.record_id, StoredDocument.document)
    with store.transaction() as connection:
        for start in range(0, len(record_ids), _AT_ONCE):
            ids = record_ids[start : start + _AT_ONCE]
            for record_id, document in connection.execute(sa.select(*columns).where(columns[0].in_(ids))):
                curves[record_id] = _curve(_Document.model_validate_json(document))
    return curves


def _curve(document: _Document) -> Curve:
    layers = sorted(document.layers, key=lambda layer: layer.index)
    return Curve(
        document.best_layer,
        tuple(layer.index for layer in layers),
        tuple(layer.name for layer in layers),
        tuple(layer.test for layer in layers),
        None if document.selection is None else document.selection.alike,
    )


def median_curve(curves: Sequence[Curve], depths: Sequence[float]) -> NDArray[np.float64]:
    """Compute the median over curves of the test score at each depth, linear between two layers.

    Args:
        curves: at least one; each has two layers or more.
        depths: relative depths, from 0 to 1.

    Returns:
        (depths,) scores.
    """
    return np.median([np.interp(depths, curve.depths, curve.tests) for curve in curves], axis=0)
