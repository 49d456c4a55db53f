"""The text of numbers and ranks on the pages, in the terminal and in files, and the legends that explain them."""

from collections.abc import Iterable

from leaderboard.ranking.boards import Board, Cell, Row
from leaderboard.records.flags import DATA, FLAGS
from leaderboard.records.result import Result

GROUPS = {"core": "Core", "auxiliary": "Auxiliary", "builtin": "Built-in", "own": "Own"}
# mAP is the macro mean over classes, as in BEANS.
METRICS = {"accuracy": "accuracy", "map": "mAP"}
OVERLAP_MARK = "†"
OVERLAP_LEGEND = f"{OVERLAP_MARK} The pretraining overlaps with the task; this is disclosed and changes no rank."
REMOTE_CODE_MARK = "‡"
REMOTE_CODE = "runs code that came with the checkpoint (trust_remote_code = true)"
RANK_LEGEND = (
    "3 (2-5), for example, is rank 3, with ranks 2 to 5 in 95 % of 1000 resamples of the test recordings. "
    "All submissions share the resamples."
)
TIE_LEGEND = (
    "Ranks that share a group (A, B, ...) cannot be distinguished: the 95 % interval of the paired difference between "
    "their mean and that of the group's first contains 0. Groups are not corrected for the number of submissions."
)
BORDA_LEGEND = "Borda: the number of submissions that it beats, summed over tasks; a tie counts half."
# With fewer recordings than this, resamples show too little of the variation between recordings.
FEW_RECORDINGS = 10
REMOTE_CODE_LEGEND = f"{REMOTE_CODE_MARK} The submission {REMOTE_CODE}."
# The flags that the board marks. The other flags are on the page of the result.
FLAG_MARKS = {"few-validation-recordings": "§", "undertrained": "¶", **dict.fromkeys(DATA, "‖")}
LAYERS_LEGEND = (
    "Layer 6 (5-11), for example, is layer 6, chosen on validation, which cannot distinguish layers 5 to 11 from it: "
    "the 95 % interval of the paired difference over its recordings contains 0."
)
# A set of layers with more ranges than this is shortened. Files and JSON have all layers.
_MOST_RANGES = 8


def score(value: float) -> str:
    """A score with three decimals, as in papers."""
    return f"{value:.3f}"


def half_interval(low: float, high: float) -> str:
    """Half the width of an interval, printed after a score."""
    return f"± {(high - low) / 2:.3f}"


def rank_interval(row: Row) -> str:
    """The range of the rank, such as "(2-5)"; "(–)" if it is unknown, "" without a rank."""
    if row.rank is None:
        return ""
    return "(–)" if row.standing is None else f"({row.standing.rank_low}-{row.standing.rank_high})"


def ranges(numbers: Iterable[int]) -> str:
    """A set of numbers as ranges, such as "0, 5-7". Many ranges are shortened: "0, 2, 4, ..., 24"."""
    found: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if found and found[-1][1] == number - 1:
            found[-1] = found[-1][0], number
        else:
            found.append((number, number))
    parts = [f"{low}" if low == high else f"{low}-{high}" for low, high in found]
    if len(parts) > _MOST_RANGES:
        parts = [*parts[: _MOST_RANGES - 2], "...", parts[-1]]
    return ", ".join(parts)


def layers(chosen: int, alike: Iterable[int] | None) -> str:
    """The chosen layer with those that validation cannot distinguish from it, such as "6 (5-11)".

    Args:
        chosen: its index.
        alike: all these layers, the chosen one included; None if they are unknown.
    """
    others = set(alike or ()) - {chosen}
    return f"{chosen} ({ranges(others | {chosen})})" if others else f"{chosen}"


def best_layer(result: Result) -> str:
    """The best layer of a result, as `layers` writes it."""
    return layers(result.best_layer, result.alike)


def layer_legends(cells: Iterable[Cell]) -> list[str]:
    """How to read the best layer of cells, if one of them has several layers."""
    several = any(cell.result is not None and len(cell.result.alike or ()) > 1 for cell in cells)
    return [LAYERS_LEGEND] if several else []


def flag_legends(cells: Iterable[Cell]) -> list[str]:
    """The marks of flags in cells, each with its sentences."""
    flags = {flag for cell in cells if cell.result is not None for flag in cell.result.flags}
    sentences: dict[str, list[str]] = {}
    for flag, mark in FLAG_MARKS.items():
        if flag in flags:
            sentences.setdefault(mark, []).append(FLAGS[flag])
    return [f"{mark} {' '.join(parts)}" for mark, parts in sentences.items()]


def tie_group(number: int) -> str:
    """The letters of a group's number: A for 1, Z for 26, AA for 27."""
    letters = ""
    while number:
        number, letter = divmod(number - 1, 26)
        letters = chr(ord("A") + letter) + letters
    return letters


def certainty_notes(board: Board) -> list[str]:
    """Sentences that explain ranks, groups and Borda counts, and the reasons for missing ones."""
    return [*certainty_legends(board), *certainty_gaps(board)]


def certainty_legends(board: Board) -> list[str]:
    """How to read ranks, groups and Borda counts. Boards side by side share these sentences."""
    few = [
        f"{column.task} ({column.recordings})"
        for column in board.columns
        if column.recordings is not None and column.recordings < FEW_RECORDINGS
    ]
    notes = [RANK_LEGEND, TIE_LEGEND, BORDA_LEGEND] if any(row.standing is not None for row in board.rows) else []
    if few:
        notes.append(f"Tasks with few test recordings make these intervals too narrow: {', '.join(few)}.")
    return notes


def certainty_gaps(board: Board) -> list[str]:
    """The reasons why ranks of this board have no range."""
    ranked = [row for row in board.rows if row.rank is not None]
    reasons = sorted({row.standing_reason for row in ranked if row.standing is None and row.standing_reason})
    settled = sum(row.standing is not None for row in ranked)
    notes = []
    if reasons:
        notes.append(f"Ranks without a range: {'; '.join(reasons)}.")
    if settled and reasons:
        notes.append(
            f"Ranges, groups and Borda counts are of the {settled} rows with a range; others keep their place."
        )
    return notes


def signed(value: float) -> str:
    """A difference with three decimals and a sign; "0.000" if it rounds to zero."""
    return f"{value:+.3f}".replace("-", "−") if round(value, 3) else "0.000"


def p_value(value: float) -> str:
    """A p-value with three decimals, but never 0.000: resamples show no p of zero."""
    return f"p {value:.3f}" if value >= 0.0005 else "p < 0.001"


def interval_in_words(result: Result) -> str:
    """The full numbers of one score, as text."""
    return (
        f"{result.test:.4f}, 95 % interval [{result.ci_low:.4f}, {result.ci_high:.4f}], "
        f"standard deviation over seeds {result.test_std:.4f}; "
        f"best layer {result.best_layer} ({result.best_layer_name}), chosen on validation"
        + (f", which cannot distinguish layers {ranges(alike)}" if len(alike := result.alike or []) > 1 else "")
    )


def parameters(count: int) -> str:
    """A number of parameters in millions."""
    return f"{count / 1e6:.1f} M" if count >= 50_000 else f"{count / 1e6:.2g} M" if count else "0"


def rate(value: float) -> str:
    """A learning rate, such as 1.0e-3."""
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def memory(count: int) -> str:
    """Bytes as MiB or GiB."""
    return f"{count / 2**20:.0f} MiB" if count < 2**30 else f"{count / 2**30:.2f} GiB"
