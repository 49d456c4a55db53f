"""A board as a file: every number in full, one column a field."""

import csv
import io

from leaderboard.ranking import Board

_FIELDS = ("test", "ci_low", "ci_high", "test_std", "best_layer", "best_layer_name", "record_id")


def to_csv(board: Board) -> str:
    """One line a submission. A task's columns are ``TASK`` (the score) and ``TASK.FIELD``; ``TASK.note`` says why the
    score is empty."""
    columns = [column.task for column in board.columns]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [name for task in columns for name in (task, *(f"{task}.{field}" for field in _FIELDS[1:]), f"{task}.note")]
    head = ["rank", "submission", "mean", "tasks", "protocol", "track", "group", "limit"]
    tail = ["parameters", "vram_bytes", "vram_note", "device"]
    writer.writerow([_text(name) for name in [*head, *names, *tail]])
    for row in board.rows:
        cells: list[object] = []
        for cell in row.cells:
            cells += [getattr(cell.result, field) if cell.result else None for field in _FIELDS]
            cells.append(cell.reason)
        start = [row.rank, row.submission, row.mean, row.coverage, board.protocol, board.track, board.group, row.limit]
        end = [row.parameters, row.vram_bytes, "" if row.vram_bytes is not None else row.vram_reason, row.device]
        writer.writerow([_text(value) if isinstance(value, str) else value for value in [*start, *cells, *end]])
    return out.getvalue()


def _text(value: str) -> str:
    # A spreadsheet runs what begins like a formula, and names are anybody's.
    return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
