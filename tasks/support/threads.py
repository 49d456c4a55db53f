"""How the threads of numerical libraries wait for each other."""

import os

# Turns of a waiting loop before a thread sleeps. On two cores, alone, a search with 1000 took 1.4 times as long as
# with the default (millions), and 6 times as long with none. Beside busy processes the default took 25 times as long.
_TURNS = "1000"


def wait_briefly() -> None:
    """Let waiting threads soon sleep. It must be called before torch is loaded; child processes inherit it.

    By default a waiting thread keeps its core busy, and beside other busy processes that core is missing. A setting of
    the user is kept.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = _TURNS
