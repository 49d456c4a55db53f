"""Paths of a submission start at its file, whatever directory a command runs in."""

import os
from pathlib import Path


def not_there(key: str, source: str, base: Path, advice: str) -> str:
    """Where ``source`` is missing, or something else, and what to do: ``advice``, unless the working directory has it.

    Args:
        key: what the submission calls it.
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
