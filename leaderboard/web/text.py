"""How numbers and names are spelt on the pages. Names come from records, so they are escaped wherever they go."""

import html
import json
import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlsplit, urlunsplit

from leaderboard.ranking.boards import Board, Row
from leaderboard.ranking.filters import Filters, size_names
from leaderboard.records.record import Tracking
from leaderboard.records.result import Result

TRACKS = {"ta": "T-A", "twa": "T-WA"}
TRACK_HELP = {"ta": "mean over frames, then a linear layer", "twa": "learned weights over frames, then a linear layer"}
GROUPS = {"core": "Core", "auxiliary": "Auxiliary", "builtin": "Built-in", "own": "Own"}
METRICS = {"accuracy": "accuracy", "map": "mAP"}
FILTERS = {
    "taxa": "Taxa",
    "family": "Family",
    "size": "Parameters",
    "licence": "Licence",
    "domain": "Pretraining domain",
    "device": "Device",
}
OVERLAP_MARK = "†"
OVERLAP_LEGEND = f"{OVERLAP_MARK} The pretraining overlaps with the task; this is disclosed and changes no rank."
REMOTE_CODE_MARK = "‡"
REMOTE_CODE = "runs code that came with the checkpoint (trust_remote_code = true)"
RANK_LEGEND = (
    "3 (2-5), for example, is rank 3 and the range it takes in 95 % of 1000 resamples of the test recordings, "
    "the same ones for every submission."
)
TIE_LEGEND = (
    "Ranks that share a group (A, B, ...) cannot be told apart: the 95 % interval of the paired difference between "
    "their mean and that of the group's first holds 0. Groups are not corrected for the number of submissions."
)
BORDA_LEGEND = "Borda: summed over tasks, how many submissions it beats; a tie counts half."
# Resamples of fewer recordings than this show too little of what others would have given.
FEW_RECORDINGS = 10
NO_RUN = "Results without a run were not sent to MLflow yet; beans records push does so."
NO_SERVER = "Runs in a local MLflow are linked when the board is started with beans leaderboard serve --mlflow."
REMOTE_CODE_LEGEND = f"{REMOTE_CODE_MARK} The submission {REMOTE_CODE}."


def score(value: float) -> str:
    """Three decimals, as the papers print them."""
    return f"{value:.3f}"


def half_interval(low: float, high: float) -> str:
    """Half the width of an interval, to print after a score."""
    return f"± {(high - low) / 2:.3f}"


def rank_interval(row: Row) -> str:
    """The range of the rank, such as "(2-5)"; "(–)" where it is not known, nothing where there is no rank."""
    if row.rank is None:
        return ""
    return "(–)" if row.standing is None else f"({row.standing.rank_low}-{row.standing.rank_high})"


def tie_group(number: int) -> str:
    """A for the first group, Z for the 26th, AA for the 27th."""
    letters = ""
    while number:
        number, letter = divmod(number - 1, 26)
        letters = chr(ord("A") + letter) + letters
    return letters


def certainty_notes(board: Board) -> list[str]:
    """What a reader needs to know of ranks, groups and counts, and why some are missing."""
    return [*certainty_legends(board), *certainty_gaps(board)]


def certainty_legends(board: Board) -> list[str]:
    """How to read ranks, groups and counts; boards side by side share these sentences."""
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
    """Why this board's ranks have no range, where they have none."""
    ranked = [row for row in board.rows if row.rank is not None]
    reasons = sorted({row.standing_reason for row in ranked if row.standing is None and row.standing_reason})
    settled = sum(row.standing is not None for row in ranked)
    notes = []
    if reasons:
        notes.append(f"Ranks without a range: {'; '.join(reasons)}.")
    if settled and reasons:
        notes.append(f"Ranges, groups and Borda counts are of the {settled} rows with a range; others keep place.")
    return notes


def filter_value(name: str, value: str) -> str:
    """How a value of a filter is shown: 10-100 M for the size 10-100."""
    named = {"size": size_names(), "taxa": {"none": "none in particular"}, "domain": {"none": "none (no sound heard)"}}
    return named.get(name, {}).get(value, value)


def filters(chosen: Mapping[str, Sequence[str]]) -> str:
    """Filters in words, such as "family HuBERT or WavLM; parameters < 10 M"."""
    parts = [
        f"{FILTERS[name].lower()} {' or '.join(filter_value(name, value) for value in values)}"
        for name, values in chosen.items()
    ]
    return "; ".join(parts)


def scope(shown: Board, ranked: Board, whole: Board, chosen: Filters) -> list[str]:
    """Which filters are in use, what they leave, and among whom the ranks are; nothing without a filter.

    Args:
        shown: the rows that pass.
        ranked: all rows, over the tasks that are chosen.
        whole: all rows over all tasks.
        chosen: the filters.
    """
    if not chosen.chosen():
        return []
    told = [f"Filtered by {filters(chosen.chosen())}."]
    if chosen.taxa:
        told.append(f"Mean over {len(shown.columns)} of {len(whole.columns)} tasks; ranks are by it.")
    among = sum(row.rank is not None for row in ranked.rows)
    if len(shown.rows) < len(ranked.rows):
        told.append(f"{len(shown.rows)} of {len(ranked.rows)} rows; ranks are among all {among} that are ranked.")
    return told


def signed(value: float) -> str:
    """A difference: three decimals and a sign, unless nothing is left of it."""
    return f"{value:+.3f}".replace("-", "−") if round(value, 3) else "0.000"


def p_value(value: float) -> str:
    """Three decimals, and no 0.000: a share of resamples is never nothing."""
    return f"p {value:.3f}" if value >= 0.0005 else "p < 0.001"


def interval_in_words(result: Result) -> str:
    """Everything behind one score."""
    return (
        f"{result.test:.4f}, 95 % interval [{result.ci_low:.4f}, {result.ci_high:.4f}], "
        f"standard deviation over seeds {result.test_std:.4f}; "
        f"best layer {result.best_layer} ({result.best_layer_name}), chosen on validation"
    )


def pretraining(about: Mapping[str, object]) -> list[str]:
    """Each data set with what is known of it, such as "FSD50K (general audio, 108 h, drawn from Freesound)"."""
    entries = about.get("pretraining")
    if not isinstance(entries, list | tuple):
        return ["not stated, so nothing is known of an overlap with a task"]
    told = [_data_set(entry) if isinstance(entry, Mapping) else str(entry) for entry in entries]
    return told or ["none"]


def _data_set(entry: Mapping[str, object]) -> str:
    hours, drawn = entry.get("hours"), entry.get("collections")
    more = [
        str(entry["domain"]) if entry.get("domain") else "",
        f"{hours:,g} h" if isinstance(hours, int | float) else "",
        f"drawn from {', '.join(map(str, drawn))}" if isinstance(drawn, list | tuple) and drawn else "",
    ]
    known = ", ".join(part for part in more if part)
    return f"{entry.get('data', '?')} ({known})" if known else str(entry.get("data", "?"))


def parameters(count: int) -> str:
    """Millions of parameters."""
    return f"{count / 1e6:.1f} M" if count >= 50_000 else f"{count / 1e6:.2g} M" if count else "0"


def rate(value: float) -> str:
    """A learning rate, such as 1.0e-3."""
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def memory(count: int) -> str:
    """Bytes as MiB or GiB."""
    return f"{count / 2**20:.0f} MiB" if count < 2**30 else f"{count / 2**30:.2f} GiB"


def markdown(text: str) -> str:
    """``text`` such that Streamlit's markdown shows it as it is."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(text.split()))


def facts(entries: dict[str, object]) -> str:
    """A list of facts as HTML, everything escaped; addresses of the web become links, `words` in backticks code."""
    rows = "".join(f"<span>{html.escape(key)}</span><span>{_fact(value)}</span>" for key, value in entries.items())
    return f'<div class="facts">{rows}</div>'


def run_link(run: Tracking | None, *, local_uri: str, local_server: str | None) -> str | None:
    """The page of an MLflow run, or None when no server shows it.

    Args:
        run: where the record was logged.
        local_uri: this home's own tracking address.
        local_server: address of the MLflow server started beside the board, which shows ``local_uri``.
    """
    server = None if run is None else _server(run, local_uri, local_server)
    if run is None or server is None:
        return None
    return f"{server}/#/experiments/{_identifier(run.experiment_id)}/runs/{_identifier(run.run_id)}"


def compare_link(runs: Sequence[Tracking], *, local_uri: str, local_server: str | None) -> tuple[str | None, str]:
    """MLflow's page that compares ``runs``, or of a single one its own page.

    Args:
        runs: where the records were logged.
        local_uri: as in `run_link`.
        local_server: as in `run_link`.

    Returns:
        The address and "", or None and why there is none.
    """
    if not runs:
        return None, NO_RUN
    servers = {_server(run, local_uri, local_server) for run in runs}
    if None in servers:
        return None, NO_SERVER
    if len(servers) > 1:
        return None, "The runs are on different MLflow servers, and a server compares only its own."
    if len(runs) == 1:
        return run_link(runs[0], local_uri=local_uri, local_server=local_server), ""
    ids = dict.fromkeys(_identifier(run.run_id) for run in runs)
    experiments = sorted({_identifier(run.experiment_id) for run in runs})
    query = "&".join(
        f"{key}={quote(json.dumps(list(values), separators=(',', ':')), safe='')}"
        for key, values in (("runs", ids), ("experiments", experiments))
    )
    return f"{servers.pop()}/#/compare-runs?{query}", ""


def _server(run: Tracking, local_uri: str, local_server: str | None) -> str | None:
    server = local_server if run.uri == local_uri and local_server else web_address(run.uri)
    return server and server.rstrip("/")


def _identifier(text: str) -> str:
    """Records are anybody's, so an identifier is only what MLflow's look like."""
    return re.sub(r"[^A-Za-z0-9_-]", "", text)


def web_address(text: str) -> str | None:
    """``text`` without a user name and password if it is an http(s) address, else None."""
    try:
        parts = urlsplit(text)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return urlunsplit((parts.scheme, host + port, parts.path, parts.query, parts.fragment))


def _fact(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_fact(item) for item in value)
    escaped = re.sub(r"\S+", lambda found: _word(found[0]), str(value))
    return re.sub("`([^`<>]+)`", r"<code>\1</code>", escaped)


def _word(word: str) -> str:
    """A word, as a link if it is an address; what ends a sentence or a list is no part of one."""
    bare = word.rstrip(".,;:)")
    address = web_address(bare)
    if address is None:
        return html.escape(word)
    shown = html.escape(address)
    return f'<a href="{shown}" target="_blank" rel="noopener noreferrer">{shown}</a>{word[len(bare) :]}'
