"""Run the code of somebody's model, which must not end the program."""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from types import FrameType
from typing import NoReturn

from tasks.support.errors import UserError

_leave = os._exit
_running = threading.local()


@contextmanager
def contained() -> Iterator[None]:
    """Run the code of a model. If it ends the program, this is an error and no silent end. Ctrl-C stays Ctrl-C.

    What the code prints goes to stderr, because scripts read the results from stdout.

    What cannot be caught: a signal that kills the process, and a crash inside a library. Both set an exit code.

    Raises:
        UserError: the code called sys.exit or os._exit, or raised another exception that ends a program.
    """
    interrupts: list[int] = []
    os._exit = _exit_of_a_model
    before, _running.process = getattr(_running, "process", None), os.getpid()
    try:
        with _noting_interrupts(interrupts), redirect_stdout(sys.stderr):
            yield
    except (Exception, GeneratorExit):
        raise
    except BaseException as error:
        if interrupts:
            raise
        status = "" if error.args in ((), (None,)) else f" {' '.join(str(error).split())}"
        raise UserError(
            f"The model's code ended the program with {type(error).__name__}{status}"
            f" ({place(error)}): remove the call, and raise an exception where something is wrong."
        ) from error
    finally:
        _running.process = before


def place(error: BaseException) -> str:
    """The file and line where an error was raised, for the author of the code."""
    every = traceback.extract_tb(error.__traceback__)
    # Not the line of `exit` or of `_exit_of_a_model`, but the line that calls them.
    frames = [frame for frame in every if frame.filename != __file__ and not frame.filename.startswith("<frozen")]
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else "unknown place"


def _exit_of_a_model(status: int) -> NoReturn:
    """Replace os._exit, which ends the process at once and prints nothing. A forked process may end itself."""
    if getattr(_running, "process", None) == os.getpid():
        raise SystemExit(status)
    _leave(status)


@contextmanager
def _noting_interrupts(interrupts: list[int]) -> Iterator[None]:
    """Note each Ctrl-C, because code can raise a KeyboardInterrupt too. Only the main thread gets Ctrl-C."""
    usual = signal.default_int_handler
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not usual:
        yield
        return

    def note(number: int, frame: FrameType | None) -> NoReturn:
        interrupts.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        # The model's code may have set a handler of its own.
        signal.signal(signal.SIGINT, usual)
