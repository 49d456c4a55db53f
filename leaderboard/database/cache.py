"""A cache of one value, which a server keeps between pages."""

from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Latest(Generic[Key, Value]):
    """A thread-safe cache of the value of the last key. Threads that need it at once wait until one has made it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: tuple[Key, Value] | None = None

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """The cached value if its key is equal, else the new value of ``make``, which is cached."""
        with self._lock:
            if self._kept is None or self._kept[0] != key:
                # Drop the old value first, so that memory never holds two values.
                self._kept = None
                self._kept = key, make()
            return self._kept[1]
