"""Ports for servers of the tests: never the same one twice, also not to another worker of a parallel run."""

import itertools
import os
import socket

_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
# Below the range from which the system gives ports to outgoing connections.
_CANDIDATES = itertools.count(20_000 + 500 * _WORKER + os.getpid() % 250)


def free_port() -> int:
    """A port on which nothing listens and which was not handed out before."""
    for port in _CANDIDATES:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("unreachable")
