"""What somebody may have meant by a key that there is not."""

from collections.abc import Iterable
from difflib import get_close_matches


def instead(key: str, known: Iterable[str]) -> str:
    """The nearest of the ``known`` keys, or all of them where none is near, in brackets."""
    names = list(known)
    near = get_close_matches(key, names, n=1)
    return f"(did you mean {near[0]}?)" if near else f"(it has {', '.join(names)})"
