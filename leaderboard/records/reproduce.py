"""The command that reproduces a record."""

import re
import shlex
from collections.abc import Mapping

import tomli_w

from leaderboard.records.protocol import Protocol
from leaderboard.records.record import Record
from tasks.support.errors import UserError


def command(record: Record) -> str:
    """The ``beans submit`` command. It runs in the directory that contains the file of `submission_file`."""
    task = f"{record.task.name}.toml" if record.task.group == "own" else record.task.name
    arguments = ["beans", "submit", file_name(record), "--tasks", task, "--track", record.track]
    rules = _rules(record)
    if rules is not None:
        arguments += rules.options
    if record.limit is not None:
        arguments += ["--limit", str(record.limit)]
    return shlex.join(arguments)


def caveat(record: Record) -> str:
    """A sentence about the settings of the record's protocol that `command` does not set; empty if it sets all."""
    rules = _rules(record)
    if rules is None:
        return (
            f"This version of the suite does not know the rules of {record.protocol}, so the command has no options for"
            " them: use the version that made the record."
        )
    missing = ", ".join(f"{name}={value}" for name, value in rules.unreachable.items())
    return f"No option of the command sets {missing}; change the protocol in the code." if missing else ""


def _rules(record: Record) -> Protocol | None:
    """The record's protocol; None if this version of the suite does not know it."""
    try:
        return Protocol.parse(record.protocol)
    except UserError:
        return None


def file_name(record: Record) -> str:
    """A file name for the submission."""
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', record.submission.name).strip('-.') or 'submission'}.toml"


def submission_file(record: Record) -> str:
    """The submission as TOML, from what the record holds."""
    info = record.submission
    # A submission may have no facts for readers. The suite refuses an empty table of facts.
    about = {"about": info.about} if info.about else {}
    return toml({"submission": {"name": info.name, "loader": info.loader, **info.arguments}, **about})


def toml(tables: Mapping[str, Mapping[str, object]]) -> str:
    """Tables of values as TOML text. Values that are None are left out, since TOML has no None."""
    return tomli_w.dumps({name: _stated(table) for name, table in tables.items()})


def _stated(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _stated(item) for key, item in value.items() if item is not None}
    return [_stated(item) for item in value if item is not None] if isinstance(value, list | tuple) else value
