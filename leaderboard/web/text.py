"""Sentences, facts and links of the pages. All names are escaped, since anybody can send a record."""

import html
import json
import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlsplit, urlunsplit

from leaderboard.ranking.boards import Board
from leaderboard.ranking.filters import Filters, size_names
from leaderboard.records.record import Tracking

FILTERS = {
    "taxa": "Taxa",
    "family": "Family",
    "size": "Parameters",
    "licence": "Licence",
    "domain": "Pretraining domain",
    "device": "Device",
}
NO_RUN = "Results without a run are not in MLflow yet; beans records push sends them."
NO_SERVER = "Runs in a local MLflow are linked when the board is started with beans leaderboard serve --mlflow."


def filter_value(name: str, value: str) -> str:
    """The shown text of a filter value: 10-100 M for the size 10-100."""
    named = {"size": size_names(), "taxa": {"none": "none in particular"}, "domain": {"none": "none (no audio)"}}
    return named.get(name, {}).get(value, value)


def filters(chosen: Mapping[str, Sequence[str]]) -> str:
    """The filters as text, such as "family HuBERT or WavLM; parameters < 10 M"."""
    parts = [
        f"{FILTERS[name].lower()} {' or '.join(filter_value(name, value) for value in values)}"
        for name, values in chosen.items()
    ]
    return "; ".join(parts)


def scope(shown: Board, ranked: Board, whole: Board, chosen: Filters) -> list[str]:
    """Sentences about the filters in use, the rows that pass, and the rows that are ranked; none without a filter.

    Args:
        shown: the rows that pass the filters.
        ranked: all rows, over the chosen tasks.
        whole: all rows, over all tasks.
        chosen: the filters.
    """
    if not chosen.chosen():
        return []
    sentences = [f"Filtered by {filters(chosen.chosen())}."]
    if chosen.taxa:
        sentences.append(f"Mean over {len(shown.columns)} of {len(whole.columns)} tasks; ranks use this mean.")
    among = sum(row.rank is not None for row in ranked.rows)
    if len(shown.rows) < len(ranked.rows):
        sentences.append(f"{len(shown.rows)} of {len(ranked.rows)} rows; ranks are among all {among} ranked rows.")
    return sentences


def pretraining(about: Mapping[str, object]) -> list[str]:
    """Each data set with its known facts, such as "FSD50K (general audio, 108 h, drawn from Freesound)"."""
    entries = about.get("pretraining")
    if not isinstance(entries, list | tuple):
        return ["not stated, so overlaps with tasks are unknown"]
    data_sets = [_data_set(entry) if isinstance(entry, Mapping) else str(entry) for entry in entries]
    return data_sets or ["none"]


def _data_set(entry: Mapping[str, object]) -> str:
    hours, drawn = entry.get("hours"), entry.get("collections")
    more = [
        str(entry["domain"]) if entry.get("domain") else "",
        f"{hours:,g} h" if isinstance(hours, int | float) else "",
        f"drawn from {', '.join(map(str, drawn))}" if isinstance(drawn, list | tuple) and drawn else "",
    ]
    known = ", ".join(part for part in more if part)
    return f"{entry.get('data', '?')} ({known})" if known else str(entry.get("data", "?"))


def markdown(text: str) -> str:
    """Escape ``text`` so that Streamlit's markdown shows it literally."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(text.split()))


def facts(entries: dict[str, object]) -> str:
    """Facts as escaped HTML. Web addresses become links; `words` in backticks become code."""
    rows = "".join(f"<span>{html.escape(key)}</span><span>{_fact(value)}</span>" for key, value in entries.items())
    return f'<div class="facts">{rows}</div>'


def run_link(run: Tracking | None, *, local_uri: str, local_server: str | None) -> str | None:
    """The address of an MLflow run's page; None if no server shows the run.

    Args:
        run: the run to which the record was logged.
        local_uri: tracking address of this home.
        local_server: address of the MLflow server that was started with the board; it shows ``local_uri``.
    """
    server = None if run is None else _server(run, local_uri, local_server)
    if run is None or server is None:
        return None
    return f"{server}/#/experiments/{_identifier(run.experiment_id)}/runs/{_identifier(run.run_id)}"


def compare_link(runs: Sequence[Tracking], *, local_uri: str, local_server: str | None) -> tuple[str | None, str]:
    """The address of MLflow's page that compares ``runs``; for a single run, of its own page.

    Args:
        runs: the runs to which the records were logged.
        local_uri: as in `run_link`.
        local_server: as in `run_link`.

    Returns:
        The address and "", or None and the reason.
    """
    if not runs:
        return None, NO_RUN
    servers = {_server(run, local_uri, local_server) for run in runs}
    if None in servers:
        return None, NO_SERVER
    if len(servers) > 1:
        return None, "The runs are on different MLflow servers, and a server compares only its own runs."
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
    """Keep only the characters of MLflow's identifiers, since anybody can send a record."""
    return re.sub(r"[^A-Za-z0-9_-]", "", text)


def web_address(text: str) -> str | None:
    """``text`` without user name and password if it is an http(s) address, else None."""
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
    escaped = re.sub(r"\S+", lambda match: _word(match[0]), str(value))
    return re.sub("`([^`<>]+)`", r"<code>\1</code>", escaped)


def _word(word: str) -> str:
    """A word as HTML. An address becomes a link; punctuation after the address stays outside the link."""
    bare = word.rstrip(".,;:)")
    address = web_address(bare)
    if address is None:
        return html.escape(word)
    shown = html.escape(address)
    return f'<a href="{shown}" target="_blank" rel="noopener noreferrer">{shown}</a>{word[len(bare) :]}'
