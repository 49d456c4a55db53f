"""The boards over all published results, with the intervals of their ranks, for pages and the command line."""

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


# Cache of boards by store: a page is drawn many times between two changes of the database.
_boards: WeakKeyDictionary[Store, Latest[tuple[object, ...], list[Board]]] = WeakKeyDictionary()
_ranges: WeakKeyDictionary[Store, dict[tuple[object, ...], "_Ranges"]] = WeakKeyDictionary()
# Boards per store whose rank intervals are cached. A board of 1,000 rows takes 10 MB.
_BOARDS_KEPT = 8


def read_standings(store: Store) -> list[Board]:
    """The boards over everything in ``store``: results, failures, and memory from profiles.

    The same objects are returned until the database changes.
    """
    latest = _boards.setdefault(store, Latest())
    return latest.get((store.version(), profiles.version(store)), lambda: _drawn(store))


def _drawn(store: Store) -> list[Board]:
    profiled = vram_at_10_seconds(profiles.profiles(store))
    plain = boards(store.results(), catalogue(), store.failures())
    return [replace(board, rows=tuple(_with_vram(row, profiled) for row in board.rows)) for board in plain]


def _with_vram(row: Row, profiled: Mapping[tuple[str, str], Vram]) -> Row:
    """``row`` with the memory from a profile of its submission and weights, if there is one."""
    weights = next((cell.result.weights_sha256 for cell in row.cells if cell.result is not None), "")
    vram = profiled.get((row.submission, weights))
    if vram is None:
        return row
    return replace(row, vram_bytes=vram.bytes, vram_reason=vram.reason, device=vram.device)


@cache
def catalogue() -> tuple[Task, ...]:
    """The suite's own tasks; their data need not be prepared."""
    return tuple(load_task(name, data=Path()) for name in catalogue_names())


def with_certainty(board: Board, store: Store, records: Path) -> Board:
    """``board`` with the `Standing` of every ranked row whose resamples are in ``records``. No resamples are computed.

    A row without resamples keeps its place: it counts for the ranks of the rows below it, but has no interval itself.
    The standings of the last few boards of ``store`` are cached. Every call checks the stamps of the files and reads
    only changed files.
    """
    of_store = _ranges.setdefault(store, {})
    key = (board.protocol, board.track, board.group, tuple(column.task for column in board.columns), records)
    if key not in of_store:
        # The number is limited, because anybody can publish under a new protocol. The oldest entry is dropped first.
        for oldest in list(of_store)[: max(0, len(of_store) + 1 - _BOARDS_KEPT)]:
            of_store.pop(oldest, None)
    return of_store.setdefault(key, _Ranges(records)).of(board)


class _Ranges:
    """Cache of the standings of one board in its last state, and of the scores that were read for each row."""

    def __init__(self, records: Path) -> None:
        self._records = records
        self._latest: Latest[tuple[Board, tuple[object, ...]], Board] = Latest()
        self._read: dict[tuple[object, ...], Combined | str] = {}

    def of(self, board: Board) -> Board:
        """``board`` with its standings."""
        ranked = {
            row.submission: tuple(cell.result for cell in row.cells if cell.result is not None)
            for row in board.rows
            if row.rank is not None
        }
        # These values determine the content of the files: other predictions have another sha256.
        states = {
            name: tuple(
                (result.record_id, result.predictions_sha256, result.test, self._state(result)) for result in results
            )
            for name, results in ranked.items()
        }
        return self._latest.get((board, tuple(states.values())), lambda: self._settled(board, ranked, states))

    def _settled(
        self, board: Board, ranked: dict[str, tuple[Result, ...]], states: Mapping[str, tuple[object, ...]]
    ) -> Board:
        scores = {name: self._read.get(state) or self._combined(ranked[name]) for name, state in states.items()}
        # Rows that are no longer on the board are dropped from the cache.
        self._read = {states[name]: score for name, score in scores.items()}
        combined = {name: score for name, score in scores.items() if isinstance(score, Combined)}
        return _settle(board, combined, {name: reason for name, reason in scores.items() if isinstance(reason, str)})

    def _state(self, result: Result) -> tuple[int, ...]:
        """The stamp of the file of resamples; if there is none, the stamp of the predictions."""
        for file in (resamples_name(result), result.predictions_file):
            try:
                # A page checks thousands of files, and making a `Path` takes longer than this call.
                status = os.stat(f"{self._records}/{file}")  # noqa: PTH116
            except OSError:
                continue
            return status.st_mtime_ns, status.st_size, status.st_ino
        return ()

    def _combined(self, results: tuple[Result, ...]) -> Combined | str:
        scores: dict[str, Scored] = {}
        for result in results:
            score = kept(result, self._records)
            if isinstance(score, str):
                return score
            scores[result.task] = score
        return Combined.of(scores, list(scores))


def _settle(board: Board, scores: dict[str, Combined], reasons: dict[str, str]) -> Board:
    standing_of = {standing.submission: standing for standing in rank_combined(scores)}
    # Ranks of the rows without resamples, ascending because the rows are sorted by rank.
    apart = [row.rank for row in board.rows if row.rank is not None and row.submission not in standing_of]

    def settle(row: Row) -> Row:
        if row.rank is None:
            return row
        standing = standing_of.get(row.submission)
        if standing is None:
            return replace(row, standing_reason=reasons.get(row.submission, OTHER_RECORDINGS))
        above = bisect_left(apart, row.rank)
        low, high = standing.rank_low + above, standing.rank_high + above
        return replace(row, standing=replace(standing, rank=row.rank, rank_low=low, rank_high=high))

    columns = tuple(
        replace(column, recordings=min((scores[name].recordings[column.task] for name in standing_of), default=None))
        for column in board.columns
    )
    return replace(board, columns=columns, rows=tuple(map(settle, board.rows)))


def kept(result: Result, records: Path) -> Scored | str:
    """The stored resamples of ``result`` in ``records``, or the reason why there are none. Nothing is computed."""
    score = resamples.kept(records, result)
    if score is not None:
        return score
    return NOT_COMPUTED if (records / result.predictions_file).is_file() else NO_PREDICTIONS


def compute(records: Path, report: Report, paths: Sequence[Path] | None = None) -> list[str]:
    """Compute the missing resamples of every record in ``records`` without a limit. A record takes seconds.

    Args:
        records: the directory of the records.
        report: receives the progress.
        paths: only these record files of the directory; all if None.

    Returns:
        One sentence per record whose predictions are missing or cannot be used.
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
