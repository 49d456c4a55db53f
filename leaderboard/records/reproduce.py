"""The command that makes a record again."""

import json
import re
import shlex
from collections.abc import Mapping

from leaderboard.records.record import Record

# Departures from the protocol that the command line can ask for; the others need the code that made the record.
_OPTIONS = {"trials": "--trials", "seeds": "--seeds", "grid": "--lr", "precision": "--precision"}


def command(record: Record) -> str:
    """The ``beans submit`` command, to be run beside the file of `submission_file`."""
    task = f"{record.task.name}.toml" if record.task.group == "own" else record.task.name
    arguments = ["beans", "submit", file_name(record), "--tasks", task, "--track", record.track]
    for name, value in departures(record.protocol).items():
        if name in _OPTIONS:
            arguments += [_OPTIONS[name], value]
    if record.limit is not None:
        arguments += ["--limit", str(record.limit)]
    return shlex.join(arguments)


def departures(protocol: str) -> dict[str, str]:
    """The settings in a protocol's name that differ from its version: ``v+trials=4`` gives ``{"trials": "4"}``."""
    pairs = (part.partition("=") for part in protocol.split("+")[1:])
    return {name: value for name, _, value in pairs}


def unreachable(record: Record) -> list[str]:
    """Departures that no option of the command asks for, as ``name=value``."""
    return [f"{name}={value}" for name, value in departures(record.protocol).items() if name not in _OPTIONS]


def file_name(record: Record) -> str:
    """A file name for the submission."""
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', record.submission.name).strip('-.') or 'submission'}.toml"


def submission_file(record: Record) -> str:
    """The submission as TOML, from what the record holds."""
    info = record.submission
    return toml({"submission": {"name": info.name, "loader": info.loader, **info.arguments}, "about": info.about})


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
