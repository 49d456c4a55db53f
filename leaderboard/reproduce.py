"""The command that makes a record again."""

import json
import re
import shlex

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
    lines = ["[submission]", f"name = {_toml(record.submission.name)}", f"loader = {_toml(record.submission.loader)}"]
    lines += [
        f"{_key(key)} = {_toml(value)}" for key, value in record.submission.arguments.items() if value is not None
    ]
    about = [f"{_key(key)} = {_toml(value)}" for key, value in record.submission.about.items() if value is not None]
    return "\n".join([*lines, "", "[about]", *about]) + "\n"


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml(key)


def _toml(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_key(str(key))} = {_toml(item)}' for key, item in value.items())}}}"
    # JSON's strings, booleans and numbers are TOML's; only DEL must be escaped in one and not in the other.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
