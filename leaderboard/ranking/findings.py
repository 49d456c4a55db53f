"""What a board shows, in sentences: who is first on each task, and who of the pretrained is above the controls."""

from collections.abc import Callable

from leaderboard.ranking import formats
from leaderboard.ranking.boards import Board
from leaderboard.ranking.significance import Difference, Scored, compare
from leaderboard.records.overlap import NOTHING
from leaderboard.records.result import Result

# How a submission compares with the best control of a task, in the order of a sentence.
_ABOVE, _ALIKE, _BELOW, _UNKNOWN = "is above", "cannot be distinguished from", "is below", "has no interval against"


def findings(board: Board, scored: Callable[[Result], Scored | str]) -> list[str]:
    """One sentence for the tasks, one for the controls, and one for each pretrained submission.

    A control is a submission that states that it was not pretrained. A pretrained submission is above the controls on
    a task if the 95 % interval of the paired difference to the best of them is above 0. Rows with a limit are left
    out, and submissions that do not state their pretraining are neither controls nor pretrained.

    Args:
        board: any board.
        scored: returns the resamples of a result, or the reason why there are none.

    Returns:
        The sentences; none if the board has fewer than two rows without a limit.
    """
    rows = [row for row in board.rows if row.limit is None]
    if len(rows) < 2:
        return []
    by_task: dict[str, list[Result]] = {}
    for place, column in enumerate(board.columns):
        found = [cell.result for row in rows if (cell := row.cells[place]).result is not None]
        if found:
            by_task[column.task] = sorted(found, key=lambda result: (-result.test, result.submission))
    sentences = [f"On {'; on '.join(_first(task, results) for task, results in by_task.items())}."]
    controls = sorted({result.submission for results in by_task.values() for result in results if _control(result)})
    if not controls:
        return [*sentences, "No submission on this board states that it was never pretrained: there is no control."]
    sentences.append(f"Never pretrained, and so the controls: {_listed(controls)}.")
    for row in rows:
        if row.newest is not None and row.newest.pretraining and not _control(row.newest):
            sentences.append(f"{row.submission} {_against_controls(row.submission, by_task, scored)}.")
    return sentences


def _control(result: Result) -> bool:
    return result.pretraining == (NOTHING,)


def _first(task: str, results: list[Result]) -> str:
    """Who is first on a task. Scores that are equal as shown are first together."""
    best = results[0]
    shown = formats.score(best.test)
    names = sorted(result.submission for result in results if formats.score(result.test) == shown)
    verb = "is" if len(names) == 1 else "are"
    return f"{task}, {_listed(names)} {verb} first with {formats.METRICS[best.metric]} {shown}"


def _against_controls(
    submission: str, by_task: dict[str, list[Result]], scored: Callable[[Result], Scored | str]
) -> str:
    """How a submission compares with the best control of each task."""
    tasks: dict[str, list[str]] = {_ABOVE: [], _ALIKE: [], _BELOW: [], _UNKNOWN: []}
    for task, results in by_task.items():
        # The results are sorted, so that the first control is the best one.
        own = next((result for result in results if result.submission == submission), None)
        control = next(filter(_control, results), None)
        if own is None or control is None:
            continue
        found = _difference(task, scored(own), scored(control))
        if found is None:
            tasks[_UNKNOWN].append(f"{task} ({control.submission})")
            continue
        place = _ALIKE if not found.told_apart else _ABOVE if found.difference > 0 else _BELOW
        interval = f"{formats.signed(found.difference)} [{formats.signed(found.low)}, {formats.signed(found.high)}]"
        tasks[place].append(f"{task} ({interval} to {control.submission})")
    parts = [f"{place} the best control on {_listed(named)}" for place, named in tasks.items() if named]
    return ", and ".join(parts) or "has no task in common with a control"


def _difference(task: str, own: Scored | str, control: Scored | str) -> Difference | None:
    """The paired difference on a task; None without resamples, or if the two were measured on other recordings."""
    if isinstance(own, str) or isinstance(control, str):
        return None
    return compare({task: own}, {task: control}).mean


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
