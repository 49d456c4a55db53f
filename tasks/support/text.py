"""Text that other people wrote: reads it from files, and makes it safe to print."""

import os
import re
from pathlib import Path

from tasks.support.errors import UserError

LONGEST = 2_000
"""Maximum number of characters of a label, of an item's id, and of any other text on one line of a record."""
LONGEST_TEXT = 20_000
"""Maximum number of characters of a text of several lines that a user writes about a submission."""

# Control characters, halves of a surrogate pair, and characters that change the direction of the following text. They
# command a terminal, cannot be written to a file, or show another text than they hold.
_UNPRINTABLE = re.compile("[\0-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# The longest name of a file, and the longest path, in bytes. Linux, macOS and Windows allow no more.
_LONGEST_NAME = 255
_LONGEST_PATH = 4_096
_STARTS = (
    (b"\xff\xfe\0\0", "is UTF-32 text"),
    (b"\0\0\xfe\xff", "is UTF-32 text"),
    (b"\xff\xfe", "is UTF-16 text"),
    (b"\xfe\xff", "is UTF-16 text"),
    (b"PK\x03\x04", "is an Excel workbook or another zip archive, and not text"),
    (b"\x1f\x8b", "is compressed with gzip, and not text"),
)
# So many bytes show what kind of file it is, before all of a large file is read.
_FIRST_BYTES = 4_096


def is_plain(text: str) -> bool:
    """Return whether a text is one line without control characters, and can be written as UTF-8."""
    return _UNPRINTABLE.search(text) is None


def printable(text: str, keep: str = "\n\t") -> str:
    r"""Return a text for a terminal: unprintable characters, apart from those in ``keep``, become escapes as \u001b."""
    return _UNPRINTABLE.sub(lambda match: match[0] if match[0] in keep else f"\\u{ord(match[0]):04x}", text)


def short(value: object, length: int = 80) -> str:
    """Return ``repr(value)``, cut at ``length`` characters."""
    try:
        words = repr(value)
    # Python does not write integers of more than 4300 digits.
    except ValueError:
        return "a very large number"
    return words if len(words) <= length else f"{words[:length]}…"


def why_no_file(path: Path) -> str | None:
    """Return why no file can be read at ``path``, as the end of a sentence; None if there is a file."""
    try:
        if path.is_file():
            return None
        return "is a directory" if path.is_dir() else "does not exist"
    # The name is longer than the system allows, or a directory above must not be entered.
    except OSError as error:
        return f"cannot be reached ({error.strerror})"


def is_too_long(path: str) -> bool:
    """Return whether a path, or the name of a directory or file in it, is longer than the system allows."""
    # A character takes four bytes at most. Most paths are short, and this is asked for every row of a table.
    if 4 * len(path) <= _LONGEST_NAME:
        return False
    encoded = os.fsencode(path)
    return len(encoded) >= _LONGEST_PATH or max(map(len, encoded.split(b"/"))) > _LONGEST_NAME


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, without its byte-order mark and with its line ends.

    Raises:
        UserError: the file cannot be read, or is not UTF-8 text. The sentence names its encoding, if that is known.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_FIRST_BYTES)
            _refuse_other_formats(path, content)
            content += file.read()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check its permissions and the disk.") from error
    _refuse_other_formats(path, content)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # A byte-order mark is not counted in the position.
        wrong, line = error.object[error.start], error.object.count(b"\n", 0, error.start) + 1
        character = bytes([wrong]).decode("cp1252", errors="replace")
        raise UserError(
            f"{path} is not UTF-8 text, but perhaps Latin-1 or Windows-1252: line {line} holds the byte 0x{wrong:02x},"
            f" which is {character!r} there; save the file as UTF-8."
        ) from error


def _refuse_other_formats(path: Path, content: bytes) -> None:
    for start, kind in _STARTS:
        if content.startswith(start):
            raise UserError(f"{path} {kind}: save it as plain text in UTF-8.")
    if b"\0" not in content:
        return
    # Every second byte of English text is 0 in UTF-16.
    if set(content[:40:2]) == {0} or set(content[1:40:2]) == {0}:
        raise UserError(f"{path} is UTF-16 text: save it as plain text in UTF-8.")
    line = content.count(b"\n", 0, content.index(0)) + 1
    raise UserError(f"{path} is not text: line {line} holds a byte with the value 0; save it as plain text in UTF-8.")
