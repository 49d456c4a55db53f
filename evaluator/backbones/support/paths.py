"""Paths of a submission start at its file, whatever directory a command runs in."""

import os
from pathlib import Path


def not_there(key: str, source: str, base: Path, advice: str) -> str:
    """Message for a path that is missing or of the wrong kind: where it should be, and what to do.

    The advice is ``advice``, unless the path exists in the working directory.

    Args:
        key: the submission's key.
        source: the path in the submission.
        base: the directory of the submission file.
        advice: the end of the sentence.
    """
    there, here = (base / source).resolve(), Path(source)
    if there.exists():
        return f"{key} {there} is a {'directory' if there.is_dir() else 'file'}: {advice}."
    missing = f"{key} {there} does not exist"
    if not here.exists():
        return f"{missing}: {advice}."
    return (
        f"{missing}, but {here.resolve()} does: paths start at the submission file, so write"
        f' {key} = "{os.path.relpath(here, base)}".'
    )
