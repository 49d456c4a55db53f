"""Ask a fresh process a question, and report why there is no answer."""

import json
import signal
import subprocess
import sys
from typing import Any, Literal

Cause = Literal["out of memory", "timeout", "user", "failed"]
# Characters of the error output that a message quotes.
_TAIL = 300


class NoAnswerError(Exception):
    """The process gave no answer.

    Attributes:
        cause: "out of memory", "timeout", "user" (the message is a sentence for the user), or "failed".
    """

    def __init__(self, message: str, cause: Cause) -> None:
        super().__init__(message)
        self.cause = cause


def ask(question: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Start a fresh process that answers a question; see ``evaluator.efficiency.__main__`` for the questions.

    Args:
        question: the question, which must fit into JSON.
        timeout: seconds after which the process is killed.

    Raises:
        NoAnswerError: there is no answer; it states the cause.
    """
    command = [sys.executable, "-m", "evaluator.efficiency", json.dumps(question)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as error:
        raise NoAnswerError(f"no answer within {timeout:g} s", "timeout") from error
    if done.returncode == -signal.SIGKILL:
        # The system kills a process when the host's memory is full; nothing else kills this one.
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
