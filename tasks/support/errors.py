"""The error class for mistakes that a user can correct, and suggestions for unknown keys."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Bad input or a bad environment, in one sentence: what is wrong, where, and what to do.

    The command line prints the sentence and exits with code 2. Any other exception is a bug of the suite and keeps its
    traceback.
    """


def instead(key: str, known: Iterable[str]) -> str:
    """Return a suggestion in brackets for an unknown key: the most similar known key, or all known keys."""
    names = list(known)
    near = get_close_matches(key, names, n=1)
    return f"(did you mean {near[0]}?)" if near else f"(it has {', '.join(names)})"
