"""Writing files so that nobody ever reads half of one."""

import errno
import os
from pathlib import Path

from tasks.support.errors import UserError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write through a temporary file beside ``path`` and rename it: a reader sees the old file or the new, whole.

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
