"""Atomic writing of files: no reader ever sees a half-written file."""

import errno
import os
from pathlib import Path

from tasks.support.errors import UserError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a temporary file beside ``path`` and rename it. A reader sees the whole old file or the whole new one.

    Raises:
        UserError: the disk is full; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    data = content.encode() if isinstance(content, str) else content
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"The disk is full: {path} needs {len(data) / 2**20:.1f} MiB more; free some space below {path.parent} and"
            " run the same command, which keeps what is done."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
