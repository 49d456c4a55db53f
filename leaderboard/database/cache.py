"""What a server keeps from one page to the next."""

from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Latest(Generic[Key, Value]):
    """The value of the last key that was asked for. Threads that ask at once wait until one of them has made it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: tuple[Key, Value] | None = None

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value that was kept with an equal key, else what ``make`` returns."""
        with self._lock:
            if self._kept is None or self._kept[0] != key:
                # The old value is let go first: two need not be held at once.
                self._kept = None
                self._kept = key, make()
            return self._kept[1]
