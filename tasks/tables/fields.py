"""The fields that both kinds of row have: the path of the audio file, and the names of an item and its recording."""

import os
import re
from pathlib import Path

from tasks.support.errors import UserError
from tasks.support.text import LONGEST, is_plain, is_too_long, short
from tasks.task import Task

_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_FOREIGN = re.compile(r"\\|://|^[A-Za-z]:/")


def read_path(task: Task, value: object, where: str) -> str:
    """Return the path of an audio file as its row means it.

    Spaces around it are removed if only then a file has this name.

    Raises:
        UserError: it is no path of this system. ``where`` says where it is written.
    """
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{where}: path {short(value)} is not the name of a file; name one, relative or absolute.")
    check_name("path", value, where)
    if is_too_long(value):
        raise UserError(f"{where}: path {short(value)} is longer than the system allows; shorten the name of the file.")
    if not task.has_own_files:
        return value
    if value != value.strip() and not (task.root / value).is_file():
        value = value.strip()
    if os.sep == "/":
        _refuse_foreign(task.root, value, where)
    return value


def _refuse_foreign(root: Path, path: str, where: str) -> None:
    """Raise a UserError for a path of Windows, and for an address of the web. A file with such a name is accepted."""
    if not _FOREIGN.search(path) or (root / path).exists():
        return
    if "://" in path:
        raise UserError(f"{where}: path {path!r} is an address; download the file, and name it here.")
    if _DRIVE.match(path) or path.startswith("\\\\"):
        name = re.split(r"[\\/]", path)[-1]
        raise UserError(
            f"{where}: path {path!r} is a path of Windows, which this system does not have; write every path from the"
            f" directory {root} on, with / between the names, such as audio/{name}."
        )
    forward = path.replace("\\", "/")
    raise UserError(f"{where}: path {path!r} has backslashes, as on Windows; write / between the names: {forward}.")


def check_name(what: str, value: str, where: str) -> None:
    """Check a path, a label, an id or the name of a recording: no control characters, and not too long.

    Raises:
        UserError: no record could hold it.
    """
    if not is_plain(value):
        raise UserError(
            f"{where}: {what} {ascii(value)[:80]} holds control characters or half a character; write plain text."
        )
    if len(value) > LONGEST:
        raise UserError(f"{where}: {what} {short(value)} has {len(value)} characters; {LONGEST} are the most.")


def enter(name: str, where: str, seen: dict[str, str]) -> None:
    """Store an id (or the path used as id) and its place in ``seen``.

    Raises:
        UserError: the same name was stored before.
    """
    first = seen.setdefault(os.path.normpath(name), where)
    if first is not where:
        raise UserError(f"{where}: {name} was named before ({first}); name every file once, in one split.")
