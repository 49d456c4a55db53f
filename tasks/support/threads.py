"""How the threads of numerical libraries wait for each other."""

import os


def wait_without_spinning() -> None:
    """Let threads sleep while they wait. It must be called before torch is loaded; child processes inherit it.

    By default a waiting thread keeps its core busy. Beside other busy processes that core is missing: on two cores with
    one busy neighbour a search of probes takes many times as long. A setting of the user is kept.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
