"""A board as a file: every number in full, one column a field."""

import csv
import io

from leaderboard.ranking import Board

_STANDING = ("rank_low", "rank_high", "group", "borda", "mean_rank", "low", "high")
_FIELDS = ("test", "ci_low", "ci_high", "test_std", "best_layer", "best_layer_name", "record_id")


def to_csv(board: Board) -> str:
    """One line a submission. A task's columns are ``TASK`` (the score) and ``TASK.FIELD``; ``TASK.note`` says why the
    score is empty, ``TASK.overlap`` what the submission heard of the task in pretraining; ``standing_note`` says
    why the columns of `leaderboard.significance.Standing` are empty."""
    columns = [column.task for column in board.columns]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    fields = (*_FIELDS[1:], "note", "overlap")
    names = [name for task in columns for name in (task, *(f"{task}.{field}" for field in fields))]
    head = ["rank", "submission", "mean", "tasks", "protocol", "track", "group", "limit"]
    tail = ["parameters", "vram_bytes", "vram_note", "device", "remote_code"]
    tail += ["rank_low", "rank_high", "tie_group", "borda", "mean_rank", "mean_ci_low", "mean_ci_high", "standing_note"]
    writer.writerow([_text(name) for name in [*head, *names, *tail]])
    for row in board.rows:
        cells: list[object] = []
        for cell in row.cells:
            cells += [getattr(cell.result, field) if cell.result else None for field in _FIELDS]
            cells += [cell.reason, "; ".join(cell.overlap)]
        start = [row.rank, row.submission, row.mean, row.coverage, board.protocol, board.track, board.group, row.limit]
        vram_note = "" if row.vram_bytes is not None else row.vram_reason
        end = [row.parameters, row.vram_bytes, vram_note, row.device, row.remote_code]
        end += [getattr(row.standing, field) if row.standing else None for field in _STANDING]
        end.append(row.standing_reason)
        writer.writerow([_text(value) if isinstance(value, str) else value for value in [*start, *cells, *end]])
    return out.getvalue()


def _text(value: str) -> str:
    # A spreadsheet runs what begins like a formula, and names are anybody's.
    return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
