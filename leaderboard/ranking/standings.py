"""What a page or a terminal shows: the boards over everything that was published, and how far their ranks go."""

import os
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from weakref import WeakKeyDictionary

from leaderboard.database import profiles
from leaderboard.database.cache import Latest
from leaderboard.database.store import Store
from leaderboard.ranking import resamples
from leaderboard.ranking.boards import Board, Row, boards
from leaderboard.ranking.resamples import resamples_name
from leaderboard.ranking.significance import Combined, Scored, rank_combined
from leaderboard.records.files import record_paths
from leaderboard.records.profile import Vram, vram_at_10_seconds
from leaderboard.records.result import Result
from leaderboard.records.stored import StoredRecord
from tasks.support.errors import UserError
from tasks.support.progress import Report
from tasks.task import Task, catalogue_names, load_task

NOT_COMPUTED = "not computed: run `beans leaderboard rebuild`"
NO_PREDICTIONS = (
    "no predictions beside the record: copy them into the records directory and run `beans leaderboard rebuild`"
)
OTHER_RECORDINGS = "not comparable: its test items are of other recordings than those of most"


# What was made last for each database that is in use: a page is drawn many times for each change.
_boards: WeakKeyDictionary[Store, Latest[tuple[object, ...], list[Board]]] = WeakKeyDictionary()
_ranges: WeakKeyDictionary[Store, dict[tuple[object, ...], "_Ranges"]] = WeakKeyDictionary()
# With 1,000 rows each holds 10 MB.
_BOARDS_KEPT = 8


def read_standings(store: Store) -> list[Board]:
    """The boards over everything in ``store``: results, failures, and the memory that profiles measured.

    The same objects are returned until the database changes.
    """
    latest = _boards.setdefault(store, Latest())
    return latest.get((store.version(), profiles.version(store)), lambda: _drawn(store))


def _drawn(store: Store) -> list[Board]:
    profiled = vram_at_10_seconds(profiles.profiles(store))
    found = boards(store.results(), catalogue(), store.failures())
    return [replace(board, rows=tuple(_with_vram(row, profiled) for row in board.rows)) for board in found]


def _with_vram(row: Row, profiled: Mapping[tuple[str, str], Vram]) -> Row:
    """``row`` with the memory that a profile of its submission and weights found, if there is one."""
    weights = next((cell.result.weights_sha256 for cell in row.cells if cell.result is not None), "")
    vram = profiled.get((row.submission, weights))
    if vram is None:
        return row
    return replace(row, vram_bytes=vram.bytes, vram_reason=vram.reason, device=vram.device)


def standings(results: list[Result]) -> list[Board]:
    """The boards over ``results``, their columns fixed by the suite's own catalogue of tasks."""
    return boards(results, catalogue())


@cache
def catalogue() -> tuple[Task, ...]:
    """The suite's own tasks; their data need not be prepared."""
    return tuple(load_task(name, data=Path()) for name in catalogue_names())


def with_certainty(board: Board, store: Store, records: Path) -> Board:
    """``board`` with the `Standing` of every ranked row whose resamples are kept in ``records``; nothing is computed.

    A row without resamples keeps its place: the ranks of those below it count it, and its own uncertainty is left out.
    What was worked out for the last few boards of ``store`` is kept; every file of theirs is looked at again, though
    not read again where it is as it was.
    """
    of_store = _ranges.setdefault(store, {})
    key = (board.protocol, board.track, board.group, tuple(column.task for column in board.columns), records)
    if key not in of_store:
        # Anybody can publish under one more protocol: only so many boards are kept, those asked for first go first.
        for oldest in list(of_store)[: max(0, len(of_store) + 1 - _BOARDS_KEPT)]:
            of_store.pop(oldest, None)
    return of_store.setdefault(key, _Ranges(records)).of(board)


class _Ranges:
    """The certainty of one board in its last state, and of each of its rows what took reading."""

    def __init__(self, records: Path) -> None:
        self._records = records
        self._latest: Latest[tuple[Board, tuple[object, ...]], Board] = Latest()
        self._read: dict[tuple[object, ...], Combined | str] = {}

    def of(self, board: Board) -> Board:
        """``board`` with its certainty."""
        ranked = {
            row.submission: tuple(cell.result for cell in row.cells if cell.result is not None)
            for row in board.rows
            if row.rank is not None
        }
        # All that the files say follows from these: a result made again from other predictions has another sha256.
        states = {
            name: tuple((one.record_id, one.predictions_sha256, one.test, self._state(one)) for one in results)
            for name, results in ranked.items()
        }
        return self._latest.get((board, tuple(states.values())), lambda: self._settled(board, ranked, states))

    def _settled(
        self, board: Board, ranked: dict[str, tuple[Result, ...]], states: Mapping[str, tuple[object, ...]]
    ) -> Board:
        found = {name: self._read.get(state) or self._combined(ranked[name]) for name, state in states.items()}
        # Only the rows of this board are kept on.
        self._read = {states[name]: one for name, one in found.items()}
        combined = {name: one for name, one in found.items() if isinstance(one, Combined)}
        return _settle(board, combined, {name: one for name, one in found.items() if isinstance(one, str)})

    def _state(self, result: Result) -> tuple[int, ...]:
        """What changes when the resamples or, where there are none, the predictions do."""
        for file in (resamples_name(result), result.predictions_file):
            try:
                # A page looks at thousands: a `Path` for each would take longer than the look.
                about = os.stat(f"{self._records}/{file}")  # noqa: PTH116
            except OSError:
                continue
            return about.st_mtime_ns, about.st_size, about.st_ino
        return ()

    def _combined(self, results: tuple[Result, ...]) -> Combined | str:
        scores: dict[str, Scored] = {}
        for result in results:
            one = kept(result, self._records)
            if isinstance(one, str):
                return one
            scores[result.task] = one
        return Combined.of(scores, list(scores))


def _settle(board: Board, scores: dict[str, Combined], reasons: dict[str, str]) -> Board:
    found_of = {one.submission: one for one in rank_combined(scores)}
    # Ascending, as the rows are.
    apart = [row.rank for row in board.rows if row.rank is not None and row.submission not in found_of]

    def settle(row: Row) -> Row:
        if row.rank is None:
            return row
        standing = found_of.get(row.submission)
        if standing is None:
            return replace(row, standing_reason=reasons.get(row.submission, OTHER_RECORDINGS))
        above = bisect_left(apart, row.rank)
        low, high = standing.rank_low + above, standing.rank_high + above
        return replace(row, standing=replace(standing, rank=row.rank, rank_low=low, rank_high=high))

    columns = tuple(
        replace(column, recordings=min((scores[name].recordings[column.task] for name in found_of), default=None))
        for column in board.columns
    )
    return replace(board, columns=columns, rows=tuple(map(settle, board.rows)))


def kept(result: Result, records: Path) -> Scored | str:
    """The resamples of ``result`` that lie in ``records``, or why there are none; nothing is computed."""
    found = resamples.kept(records, result)
    if found is not None:
        return found
    return NOT_COMPUTED if (records / result.predictions_file).is_file() else NO_PREDICTIONS


def compute(records: Path, report: Report, paths: Sequence[Path] | None = None) -> list[str]:
    """Make the resamples of every full record in ``records`` that has none yet, seconds a record.

    Args:
        records: the directory.
        report: is told how far it is.
        paths: only these record files in it.

    Returns:
        A sentence for each record whose predictions are missing or cannot be used.
    """
    complaints = []
    paths = list(record_paths(records)) if paths is None else paths
    for number, path in enumerate(paths):
        report("rank intervals", number, len(paths))
        stored = StoredRecord.read(path)
        if stored.record.limit is not None:
            continue
        try:
            resamples.scored(stored)
        except UserError as error:
            complaints.append(str(error))
    return complaints
