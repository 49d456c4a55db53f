"""What a page or a terminal shows: the boards over everything that was published, and how far their ranks go."""

from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from leaderboard import resamples
from leaderboard.ranking import Board, Result, Row, boards
from leaderboard.record import Record, read_record, record_paths
from leaderboard.significance import Scored, rank_submissions
from leaderboard.store import Store
from tasks.errors import UserError
from tasks.progress import Report
from tasks.task import Task, catalogue_names, load_task

NOT_COMPUTED = "not computed: run `beans leaderboard rebuild`"
NO_PREDICTIONS = (
    "no predictions beside the record: copy them into the records directory and run `beans leaderboard rebuild`"
)
OTHER_RECORDINGS = "not comparable: its test items are of other recordings than those of most"


def standings(results: list[Result]) -> list[Board]:
    """The boards over ``results``, their columns fixed by the suite's own catalogue of tasks."""
    return boards(results, catalogue())


def catalogue() -> list[Task]:
    """The suite's own tasks; their data need not be prepared."""
    return [load_task(name, data=Path()) for name in catalogue_names()]


def with_certainty(board: Board, store: Store, records: Path) -> Board:
    """``board`` with the `Standing` of every ranked row whose resamples are kept in ``records``; nothing is computed.

    A row without resamples keeps its place: the ranks of those below it count it, and its own uncertainty is left out.
    """
    ranked = [row for row in board.rows if row.rank is not None]
    scores: dict[str, dict[str, Scored]] = {}
    reasons: dict[str, str] = {}
    for row in ranked:
        found, reason = _scores(row, store, records)
        if reason:
            reasons[row.submission] = reason
        else:
            scores[row.submission] = found
    found_of = {one.submission: one for one in rank_submissions(scores, [column.task for column in board.columns])}
    apart = [row.rank for row in ranked if row.rank is not None and row.submission not in found_of]

    def settle(row: Row) -> Row:
        if row.rank is None:
            return row
        standing = found_of.get(row.submission)
        if standing is None:
            return replace(row, standing_reason=reasons.get(row.submission, OTHER_RECORDINGS))
        above = sum(rank < row.rank for rank in apart)
        low, high = standing.rank_low + above, standing.rank_high + above
        return replace(row, standing=replace(standing, rank=row.rank, rank_low=low, rank_high=high))

    columns = tuple(
        replace(column, recordings=min((scores[name][column.task].recordings for name in found_of), default=None))
        for column in board.columns
    )
    return replace(board, columns=columns, rows=tuple(map(settle, board.rows)))


def kept(result: Result, store: Store, records: Path) -> Scored | str:
    """The resamples of ``result`` that lie in ``records``, or why there are none; nothing is computed."""
    record = _lean_record(store, result.record_id, result.created)
    if record is None:
        return NOT_COMPUTED
    found = resamples.kept(records, record)
    if found is not None:
        return found
    return NOT_COMPUTED if (records / record.predictions.file).is_file() else NO_PREDICTIONS


def compute(records: Path, report: Report) -> list[str]:
    """Make the resamples of every full record in ``records`` that has none yet, seconds a record.

    Returns:
        A sentence for each record whose predictions are missing or cannot be used.
    """
    complaints = []
    paths = list(record_paths(records))
    for number, path in enumerate(paths):
        report("rank intervals", number, len(paths))
        record = read_record(path)
        if record.limit is not None:
            continue
        try:
            resamples.scored(records, record)
        except UserError as error:
            complaints.append(str(error))
    return complaints


def _scores(row: Row, store: Store, records: Path) -> tuple[dict[str, Scored], str]:
    """What is kept of every task of a row; without one of them, why."""
    found: dict[str, Scored] = {}
    for cell in row.cells:
        if cell.result is None:
            return {}, cell.reason
        one = kept(cell.result, store, records)
        if isinstance(one, str):
            return {}, one
        found[cell.result.task] = one
    return found, ""


@lru_cache(maxsize=4096)
def _lean_record(store: Store, record_id: str, created: datetime) -> Record | None:
    """A record without its curves, of which thousands can be held. ``created`` tells a record made again."""
    record = store.record(record_id)
    return record and record.model_copy(update={"layers": [], "trials": [], "epochs": []})
