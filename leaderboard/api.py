"""Results as data frames, for notebooks: records from their files, and boards from the database."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
import pandas as pd

from leaderboard.records.protocol import Protocol
from leaderboard.records.record import Record
from leaderboard.records.stored import StoredRecord, find_record
from tasks.support.errors import UserError
from tasks.support.home import Home


@dataclass(frozen=True)
class Results(Sequence[StoredRecord]):
    """Records as data frames.

    ``results[0]`` is one record with its files; ``Results([*some, *others])`` joins results. Each frame begins with
    the columns ``record_id``, ``submission``, ``task`` and ``track``. Scores are accuracy or mean average precision,
    from 0 to 1. A layer is its index: 0 is what enters the first block.
    """

    stored: Sequence[StoredRecord]

    @overload
    def __getitem__(self, index: int) -> StoredRecord: ...
    @overload
    def __getitem__(self, index: slice) -> "Results": ...
    def __getitem__(self, index: int | slice) -> "StoredRecord | Results":
        return Results(self.stored[index]) if isinstance(index, slice) else self.stored[index]

    def __len__(self) -> int:
        return len(self.stored)

    def __iter__(self) -> Iterator[StoredRecord]:
        return iter(self.stored)

    @property
    def record(self) -> Record:
        """The record, if there is exactly one.

        Raises:
            UserError: there are no records or several.
        """
        if len(self.stored) != 1:
            raise UserError(f"There are {len(self.stored)} records: choose one by its index, as in results[0].record.")
        return self.stored[0].record

    def scores(self) -> pd.DataFrame:
        """One row per record.

        Columns: ``protocol``, ``limit`` (items per split, or missing), ``metric`` ("accuracy" or "map"), ``valid``,
        ``test`` (mean over seeds), ``test_std`` (over seeds), ``ci_low`` and ``ci_high`` (95 % interval),
        ``best_layer``, ``best_layer_name``, ``lr``, ``epoch`` (from 1), ``looks`` (scores on validation that the choice
        was made from), ``valid_recordings``, ``optimism`` (``valid`` minus ``test``), ``reference_test`` (of logistic
        regression on the chosen layer), ``parameters``, ``vram_bytes`` (or missing), ``created``. Records of older
        versions lack ``looks`` to ``reference_test``.
        """

        def row(stored: StoredRecord) -> pd.DataFrame:
            record = stored.record
            columns = ("protocol", "limit", "metric", "valid", "test", "test_std", "ci_low", "ci_high", "best_layer",
                       "best_layer_name", "lr", "epoch")  # fmt: skip
            values = {column: [getattr(record, column)] for column in columns}
            selection, reference = record.selection, record.reference
            values["looks"] = [None if selection is None else selection.looks]
            values["valid_recordings"] = [None if selection is None else selection.recordings]
            values["optimism"] = [None if selection is None else selection.optimism]
            values["reference_test"] = [None if reference is None else reference.test]
            values["parameters"] = [record.submission.parameters]
            values["vram_bytes"] = [record.efficiency.vram_bytes]
            values["created"] = [record.created]
            return pd.DataFrame(values).astype(_SCORE_TYPES)

        return self._joined(row)

    def trials(self) -> pd.DataFrame:
        """One row per trial of the search and layer.

        Columns: ``trial`` (number), ``lr``, ``layer``, ``name`` (of the layer), ``valid`` (the best validation score),
        ``epoch`` (of that score, from 1), ``loss`` (on validation, after the last epoch; missing where the protocol
        does not use it).
        """

        def rows(stored: StoredRecord) -> pd.DataFrame:
            trials, layers = stored.record.trials, stored.record.layers
            unused = [np.nan] * len(layers)
            return pd.DataFrame(
                {
                    "trial": [trial.number for trial in trials for _ in layers],
                    "lr": [trial.lr for trial in trials for _ in layers],
                    "layer": [layer.index for _ in trials for layer in layers],
                    "name": [layer.name for _ in trials for layer in layers],
                    "valid": [score for trial in trials for score in trial.valid],
                    "epoch": [epoch for trial in trials for epoch in trial.epoch],
                    "loss": np.array([loss for trial in trials for loss in trial.loss or unused], float),
                }
            )

        return self._joined(rows)

    def layers(self) -> pd.DataFrame:
        """One row per layer: its best probe on validation, and the test score of that probe.

        The test scores are a diagnostic. No choice depends on them.

        Columns: ``layer``, ``name``, ``width`` (channels), ``valid``, ``test``, ``lr``, ``epoch`` (from 1), ``chosen``
        (whether validation chose this layer for the result), ``alike`` (whether validation cannot tell the layer apart
        from the chosen one; missing for records of older versions).
        """

        def rows(stored: StoredRecord) -> pd.DataFrame:
            layers = stored.record.layers
            values: dict[str, list[object]] = {"layer": [layer.index for layer in layers]}
            for column in ("name", "width", "valid", "test", "lr", "epoch"):
                values[column] = [getattr(layer, column) for layer in layers]
            values["chosen"] = [layer.index == stored.record.best_layer for layer in layers]
            alike = stored.record.alike
            values["alike"] = [None if alike is None else layer.index in alike for layer in layers]
            return pd.DataFrame(values).astype({"alike": "boolean"})

        return self._joined(rows)

    def predictions(self) -> pd.DataFrame:
        """One row per seed, test item and label: seeds × items × labels rows, in this order.

        Columns: ``seed`` (from 0), ``item`` (its id), ``recording``, ``label``, ``target`` (whether the item has the
        label), ``logit`` (of the chosen probe, float32, before softmax or sigmoid). Text columns are categorical.

        Raises:
            UserError: the predictions of a record are missing, or are not those of the record.
        """

        def rows(stored: StoredRecord) -> pd.DataFrame:
            predictions, labels = stored.predictions, stored.record.task.labels
            seeds, items, classes = predictions.scores.shape
            seed, item, label = (place.ravel() for place in np.indices((seeds, items, classes), dtype=np.int32))
            targets = predictions.targets
            one_hot = targets if targets.ndim == 2 else targets[:, None] == np.arange(classes)
            recordings, names = pd.factorize(np.array(predictions.recordings, dtype=object))
            return pd.DataFrame(
                {
                    "seed": seed,
                    "item": pd.Categorical.from_codes(item, pd.Index(predictions.ids)),
                    "recording": pd.Categorical.from_codes(recordings[item], pd.Index(names)),
                    "label": pd.Categorical.from_codes(label, pd.Index(labels)),
                    "target": np.tile(one_hot.astype(bool).ravel(), seeds),
                    "logit": predictions.scores.ravel(),
                }
            )

        return self._joined(rows)

    def _joined(self, rows: Callable[[StoredRecord], pd.DataFrame]) -> pd.DataFrame:
        """Return the rows of all records in one frame, with columns that identify the record of each row."""
        frames = []
        for stored in self.stored:
            record, frame = stored.record, rows(stored)
            keys = (record.id, record.submission.name, record.task.name, record.track)
            for place, (column, key) in enumerate(zip(_KEYS, keys, strict=True)):
                frame.insert(place, column, pd.Series(pd.Categorical([key]).repeat(len(frame)), index=frame.index))
            frames.append(frame)
        if not frames:
            return pd.DataFrame(columns=list(_KEYS))
        if len(frames) == 1:
            return frames[0]
        # pd.concat would turn different categories into one text per row.
        columns = {
            column: pd.api.types.union_categoricals([frame[column] for frame in frames])
            if isinstance(frames[0][column].dtype, pd.CategoricalDtype)
            else pd.concat([frame[column] for frame in frames], ignore_index=True)
            for column in frames[0]
        }
        return pd.DataFrame(columns)


_KEYS = ("record_id", "submission", "task", "track")
# Types that allow missing values.
_SCORE_TYPES = {
    **dict.fromkeys(("limit", "vram_bytes", "looks", "valid_recordings"), "Int64"),
    **dict.fromkeys(("optimism", "reference_test"), "float64"),
}


def load_record(id_or_path: str | Path, home: Home | Path | str | None = None) -> Results:
    """Read one record as data frames.

    Args:
        id_or_path: the id of a record, or the path of its file (``.json``).
        home: the home directory; None for the home that the environment names (``BEANS_HOME``, default ``./.beans``).

    Raises:
        UserError: there is no such record, or the file is not a record.
    """
    return Results((StoredRecord.read(find_record(str(id_or_path), Home.of(home).records)),))


def load_board(
    track: str | None = None,
    protocol: str | Protocol | None = None,
    tasks: str | None = None,
    home: Home | Path | str | None = None,
) -> pd.DataFrame:
    """Read one board as a data frame: the columns of `beans leaderboard export`, one row per submission, best first.

    A task's columns are ``TASK`` (the test score, from 0 to 1) and ``TASK.FIELD``, such as ``TASK.ci_low``. A board has
    one protocol, track and group of tasks. If an argument is None, the first board that fits the other arguments is
    taken: the standard protocol first, the track ``ta`` first, core tasks first.

    Args:
        track: the name of a head, such as "ta".
        protocol: the name of a protocol, or a `Protocol`.
        tasks: "core", "auxiliary", "builtin" or "own".
        home: as in `load_record`.

    Raises:
        UserError: there is no such board. The message lists the existing boards.
    """
    from leaderboard.database.standings import read_standings, with_certainty
    from leaderboard.database.store import Store
    from leaderboard.web.export import to_frame

    place = Home.of(home)
    store = Store(place.database_url)
    boards = read_standings(store)
    wanted = {
        "track": track,
        "protocol": protocol.name if isinstance(protocol, Protocol) else protocol,
        "group": tasks,
    }
    for board in boards:
        if all(value in (None, getattr(board, key)) for key, value in wanted.items()):
            return to_frame(with_certainty(board, store, place.records))
    if not boards:
        raise UserError(f"The board is empty: evaluate a submission, or name another home than {place.root}.")
    existing = "; ".join(f"track={b.track!r}, protocol={b.protocol!r}, tasks={b.group!r}" for b in boards)
    raise UserError(f"There is no such board. There are: {existing}.")
