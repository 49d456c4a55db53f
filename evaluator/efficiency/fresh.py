"""A question to a fresh process, and every way in which it can fail to answer."""

import json
import signal
import subprocess
import sys
from typing import Any, Literal

Cause = Literal["out of memory", "timeout", "user", "failed"]
# Last lines of what a process that broke has written.
_TAIL = 300


class NoAnswerError(Exception):
    """There is no answer.

    Attributes:
        cause: "out of memory", "timeout", "user" (the message is a sentence for the user), or "failed".
    """

    def __init__(self, message: str, cause: Cause) -> None:
        super().__init__(message)
        self.cause = cause


def ask(question: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Have a fresh process answer; see ``evaluator.efficiency.__main__`` for the questions.

    Args:
        question: JSON.
        timeout: seconds after which the process is killed.

    Raises:
        NoAnswerError: with the cause.
    """
    command = [sys.executable, "-m", "evaluator.efficiency", json.dumps(question)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as error:
        raise NoAnswerError(f"no answer within {timeout:g} s", "timeout") from error
    if done.returncode == -signal.SIGKILL:
        # Nobody else kills it: the system does, when the host's memory is full.
        raise NoAnswerError(
            "the system killed the process (SIGKILL), as it does when the host's memory is full", "out of memory"
        )
    try:
        answer = json.loads(done.stdout.strip().splitlines()[-1])
        if "answer" in answer:
            return dict(answer["answer"])
        raise NoAnswerError(answer["error"], answer["cause"])
    except (IndexError, ValueError, KeyError, TypeError) as error:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1][-_TAIL:]
        raise NoAnswerError(f"exit code {done.returncode}: {last}", "failed") from error
