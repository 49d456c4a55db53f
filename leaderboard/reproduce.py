"""The command that makes a record again."""

import re
import shlex
from collections.abc import Mapping

import tomli_w

from leaderboard.record import Record

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
    return tomli_w.dumps({name: _stated(table) for name, table in tables.items()})


def _stated(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _stated(item) for key, item in value.items() if item is not None}
    return [_stated(item) for item in value if item is not None] if isinstance(value, list | tuple) else value
