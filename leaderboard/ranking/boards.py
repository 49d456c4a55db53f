"""Which submissions are ranked together, and in which order. The result does not depend on the order of the input."""

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from leaderboard.ranking.significance import Standing
from leaderboard.records.failure import Failure
from leaderboard.records.overlap import overlap
from leaderboard.records.protocol import VERSIONS, Protocol
from leaderboard.records.record import Tracking
from leaderboard.records.result import Result
from tasks.task import GROUPS, Group, Metric, Task

NOT_RUN = "not run"
OTHER_WEIGHTS = "measured with other weights than the newest result of this name: submit again"
OTHER_DATA = "not comparable: measured on other data than most submissions of this task"


@dataclass(frozen=True, slots=True)
class Cell:
    """One submission on one task: a result, or the reason why there is none.

    ``overlap`` describes how the pretraining overlaps with the task. Such a score counts as any other.
    """

    result: Result | None
    reason: str = ""
    overlap: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BoardTask:
    """One task of a board. ``recordings`` counts those of the test split; None until the resamples are read."""

    task: str
    metric: Metric
    recordings: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One submission on a board.

    Attributes:
        rank: 1 is best, equal means share a rank; None if a task is missing or ``limit`` is set.
        mean: unweighted mean over all tasks of the board; None if a task is missing, since means over different tasks
            cannot be compared.
        cells: one per column of the board.
        limit: maximum number of items per split that the row's results used; None without a limit.
        vram_bytes: peak allocated memory for one 10-s clip on ``device``; if None, ``vram_reason`` gives the reason.
        standing: certainty of the rank. `leaderboard.database.standings.with_certainty` computes it; None before that,
            and if it cannot be computed, for the reason in ``standing_reason``.
    """

    rank: int | None
    submission: str
    mean: float | None
    cells: tuple[Cell, ...]
    limit: int | None
    parameters: int
    vram_bytes: int | None
    vram_reason: str
    device: str
    standing: Standing | None = None
    standing_reason: str = ""

    @property
    def covered(self) -> int:
        """Number of tasks with a result."""
        return sum(cell.result is not None for cell in self.cells)

    @property
    def newest(self) -> Result | None:
        """The result that was submitted last. Its facts about the submission hold for the row."""
        return max((cell.result for cell in self.cells if cell.result is not None), key=_age, default=None)

    @property
    def remote_code(self) -> bool:
        """Whether code that came with the checkpoint ran for a result of the row."""
        return any(cell.result is not None and cell.result.remote_code for cell in self.cells)

    @property
    def runs(self) -> tuple[Tracking, ...]:
        """The MLflow runs of the row's results."""
        return tuple(cell.result.run for cell in self.cells if cell.result is not None and cell.result.run is not None)

    @property
    def coverage(self) -> str:
        """For example ``9/10 tasks``."""
        return f"{self.covered}/{len(self.cells)} tasks"


@dataclass(frozen=True, slots=True)
class Board:
    """All submissions of one protocol, track and task group: ranked first, then incomplete, then limited ones."""

    protocol: str
    track: str
    group: Group
    columns: tuple[BoardTask, ...]
    rows: tuple[Row, ...]


def current(results: Iterable[Result]) -> list[Result]:
    """The newest result per submission, task, track, protocol and limit, without older results."""
    newest: dict[tuple[object, ...], Result] = {}
    for result in results:
        key = (result.submission, result.task, result.track, result.protocol, result.limit)
        if key not in newest or _age(result) > _age(newest[key]):
            newest[key] = result
    return list(newest.values())


def boards(results: Iterable[Result], catalogue: Sequence[Task] = (), failures: Iterable[Failure] = ()) -> list[Board]:
    """All boards: standard protocol, ``ta`` track and core tasks first.

    Args:
        results: in any order, superseded ones included.
        catalogue: the suite's own tasks. They fix the columns of their groups: a submission with nine of ten core
            tasks is not ranked on the nine, and nobody can add a column. A result that claims a group which does not
            contain its task counts as an own task. Without a catalogue the columns are the tasks with results.
        failures: failed attempts. They give the reason for an empty cell, and add no row.
    """
    results = list(results)
    overlaps = disclosures(results, catalogue)
    failed = {failure.key: failure for failure in failures}
    group_of = {task.name: task.group for task in catalogue}
    fixed = set(group_of.values())
    by_board: dict[tuple[str, str, Group], list[Result]] = defaultdict(list)
    for result in current(results):
        own = result.group in fixed and group_of.get(result.task) != result.group
        by_board[result.protocol, result.track, "own" if own else result.group].append(result)
    return [
        _board(protocol, track, group, members, [task for task in catalogue if task.group == group], overlaps, failed)
        for (protocol, track, group), members in sorted(by_board.items(), key=lambda item: _board_order(*item[0]))
    ]


def disclosures(results: Iterable[Result], catalogue: Sequence[Task]) -> dict[str, tuple[str, ...]]:
    """By record id, the overlaps of a submission's pretraining with its task. Records without overlap are left out.

    The newest result of a name and its weights states the pretraining for all results of them, since a submitter may
    complete the statement later. An own task may share its name with a different task of the catalogue.
    """
    results = sorted(results, key=_age)
    stated = {(result.submission, result.weights_sha256): result.pretraining for result in results}
    collections = {(task.name, task.group): task.facts.collections for task in catalogue}
    overlaps = {
        result.record_id: overlap(
            stated[result.submission, result.weights_sha256],
            result.task,
            collections.get((result.task, result.group), ()),
        )
        for result in results
    }
    return {record_id: reasons for record_id, reasons in overlaps.items() if reasons}


def _age(result: Result) -> tuple[datetime, str]:
    return result.confirmed or result.created, result.record_id


def _board_order(protocol: str, track: str, group: Group) -> tuple[object, ...]:
    # Fewer departures come first: "beans-probe/2" before "beans-probe/2+trials=4". The versions of this suite come
    # before others. The standard track is "ta".
    version, departures = Protocol.split(protocol)
    known = VERSIONS.index(version) if version in VERSIONS else len(VERSIONS)
    return len(departures), known, protocol, track != "ta", track, GROUPS.index(group)


def _board(
    protocol: str,
    track: str,
    group: Group,
    results: list[Result],
    catalogue: list[Task],
    overlaps: dict[str, tuple[str, ...]],
    failed: Mapping[tuple[object, ...], Failure],
) -> Board:
    full: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        if result.limit is None:
            full[result.task].append(result)
    definitions = {task: _definition(members) for task, members in full.items()}

    metrics: dict[str, Metric] = {result.task: result.metric for result in sorted(results, key=_age)}
    metrics |= {task: metric for task, (_, metric) in definitions.items()}
    if catalogue:
        metrics = {task.name: task.metric for task in catalogue}
    columns = tuple(BoardTask(task, metrics[task]) for task in sorted(metrics, key=lambda task: (metrics[task], task)))

    members_of: dict[tuple[str, int | None], list[Result]] = defaultdict(list)
    for result in results:
        members_of[result.submission, result.limit].append(result)
    rows = [
        _row(name, limit, members, columns, definitions, overlaps, failed)
        for (name, limit), members in members_of.items()
    ]
    return Board(protocol, track, group, columns, ranked(rows))


def _definition(results: list[Result]) -> tuple[str, Metric]:
    """The data and metric of most submissions. Of equally frequent ones, it is the one used last."""
    users: dict[tuple[str, Metric], list[Result]] = defaultdict(list)
    for result in results:
        users[result.split_hash, result.metric].append(result)
    return max(users, key=lambda key: (len(users[key]), max(map(_age, users[key]))))


def _row(
    name: str,
    limit: int | None,
    results: list[Result],
    columns: tuple[BoardTask, ...],
    definitions: dict[str, tuple[str, Metric]],
    overlaps: dict[str, tuple[str, ...]],
    failed: Mapping[tuple[object, ...], Failure],
) -> Row:
    newest = max(results, key=_age)
    of_task = {result.task: result for result in results}

    def cell(task: str) -> Cell:
        result = of_task.get(task)
        if result is None or result.weights_sha256 != newest.weights_sha256:
            failure = failed.get((name, newest.weights_sha256, task, newest.track, newest.protocol, limit))
            if failure is not None:
                return Cell(None, failure.words)
            return Cell(None, NOT_RUN if result is None else OTHER_WEIGHTS)
        # A limited result has its own smaller split and is never compared.
        if limit is None and (result.split_hash, result.metric) != definitions[task]:
            return Cell(None, OTHER_DATA)
        return Cell(result, overlap=overlaps.get(result.record_id, ()))

    cells = tuple(cell(column.task) for column in columns)
    same = [result for result in results if result.weights_sha256 == newest.weights_sha256]
    cost = max(same, key=lambda result: (result.vram_bytes is not None, _age(result)))
    return Row(
        rank=None,
        submission=name,
        mean=mean(cells),
        cells=cells,
        limit=limit,
        parameters=newest.parameters,
        vram_bytes=cost.vram_bytes,
        vram_reason=cost.vram_reason or "not measured",
        device=cost.device,
    )


def mean(cells: Sequence[Cell]) -> float | None:
    """Unweighted mean of the test scores; None if one is missing."""
    scores = [cell.result.test for cell in cells if cell.result is not None]
    return math.fsum(scores) / len(scores) if len(scores) == len(cells) else None


def ranked(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Rank ``rows`` by mean. Ranked rows come first, then incomplete rows, then limited rows."""
    rows = list(rows)
    # Means that differ only by rounding are equal, such as those of (0.1, 0.2) and (0.15, 0.15).
    scored = sorted(
        ((-round(row.mean, 12), row.submission, row) for row in rows if row.limit is None and row.mean is not None),
        key=lambda entry: entry[:2],
    )
    means = [negative for negative, _, _ in scored]
    ranked = [replace(row, rank=1 + bisect_left(means, negative)) for negative, _, row in scored]
    incomplete = sorted(
        (row for row in rows if row.limit is None and row.mean is None), key=lambda row: (-row.covered, row.submission)
    )
    limited = sorted(
        ((row.submission, -row.limit, row) for row in rows if row.limit is not None), key=lambda entry: entry[:2]
    )
    return (*ranked, *incomplete, *(row for _, _, row in limited))
