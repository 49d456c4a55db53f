"""A line between browser and board on which answers can be held up, as on a reader's poor connection."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass
class Line:
    """Where the board is reached through it, and how many seconds every piece of an answer takes."""

    address: str
    seconds: float = 0.0


@contextmanager
def slow_line(address: str) -> Iterator[Line]:
    """A line to the board at ``address``, as quick as without it until ``seconds`` is set."""
    board = urlsplit(address)
    listener = socket.create_server(("127.0.0.1", 0))
    line = Line(f"http://127.0.0.1:{listener.getsockname()[1]}")

    def carry(source: socket.socket, sink: socket.socket, *, held_up: bool) -> None:
        with suppress(OSError):
            while piece := source.recv(2**16):
                if held_up:
                    time.sleep(line.seconds)
                sink.sendall(piece)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                browser, _ = listener.accept()
                server = socket.create_connection((board.hostname or "", board.port or 80))
                threading.Thread(target=carry, args=(browser, server), kwargs={"held_up": False}, daemon=True).start()
                threading.Thread(target=carry, args=(server, browser), kwargs={"held_up": True}, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield line
    finally:
        listener.close()
