"""Recognise a SQLite file that is damaged, so that a message can say which file to remove."""

from pathlib import Path

# What SQLite says of a file with wrong content. "disk I/O error" is not among them: a full disk gives it too.
_DAMAGED = ("not a database", "malformed", "is encrypted", "unsupported file format")


def sqlite_file(address: str) -> Path | None:
    """The file of a SQLite database, or None for another address."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(address)
    # A ValueError is the answer to a port that is no number.
    except (ArgumentError, ValueError):
        return None
    named = url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:"
    return Path(url.database) if named and url.database else None


def damaged_file(address: str, reason: str) -> Path | None:
    """The file of a SQLite database that is damaged, as the reason of a failure says; None if it is not.

    Args:
        address: SQLAlchemy's address of the database.
        reason: the message of the failed statement.
    """
    file = sqlite_file(address)
    return file if file is not None and any(sign in reason.lower() for sign in _DAMAGED) else None
