"""The command that makes a record again."""

import json
import re
import shlex
from collections.abc import Mapping

from leaderboard.records.protocol import Protocol
from leaderboard.records.record import Record
from tasks.support.errors import UserError


def command(record: Record) -> str:
    """The ``beans submit`` command, to be run beside the file of `submission_file`."""
    task = f"{record.task.name}.toml" if record.task.group == "own" else record.task.name
    arguments = ["beans", "submit", file_name(record), "--tasks", task, "--track", record.track]
    rules = _rules(record)
    if rules is not None:
        arguments += rules.options
    if record.limit is not None:
        arguments += ["--limit", str(record.limit)]
    return shlex.join(arguments)


def caveat(record: Record) -> str:
    """What in the record's protocol `command` does not state, as a sentence; empty where it states all."""
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
    # A submission may have no facts for readers; an empty table of them would be refused.
    about = {"about": info.about} if info.about else {}
    return toml({"submission": {"name": info.name, "loader": info.loader, **info.arguments}, **about})


def toml(tables: Mapping[str, Mapping[str, object]]) -> str:
    """Tables of values as TOML text; a value that is None, which TOML does not have, is left out."""
    return "\n".join(
        "\n".join([f"[{_key(name)}]", *(f"{_key(key)} = {_lines(value)}" for key, value in _stated(table))]) + "\n"
        for name, table in tables.items()
    )


def _stated(table: Mapping[str, object]) -> list[tuple[str, object]]:
    return [(str(key), value) for key, value in table.items() if value is not None]


def _lines(value: object) -> str:
    """A value; a list of tables, such as the data sets of a pretraining, has a line for each."""
    if isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        return "\n".join(["[", *(f"    {_toml(item)}," for item in value), "]"])
    return _toml(value)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml(key)


def _toml(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(key)} = {_toml(item)}" for key, item in _stated(value))
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, float):
        return repr(value)
    # JSON's strings, booleans and numbers are TOML's; only DEL must be escaped in one and not in the other.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
