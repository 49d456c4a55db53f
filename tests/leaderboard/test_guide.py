"""The pages of prose: a reader who follows them must not meet a command that is not there, or another protocol."""

import re
import shlex
from collections.abc import Callable

import pytest

from leaderboard.ranking.resamples import RESAMPLES
from leaderboard.records.protocol import Protocol
from leaderboard.web.views import guide

WORDS = {5: "five"}


def commands() -> list[list[str]]:
    found = re.findall(r"^    (beans .*)$", guide.SUBMIT, re.MULTILINE) + re.findall(r"`(beans [^`]*)`", guide.SUBMIT)
    return [shlex.split(line)[1:] for line in found]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_of_the_page_exists(command: list[str], beans: Callable[..., tuple[int, str, str]]) -> None:
    words = [word for word in command if re.fullmatch("[a-z]+", word)]
    options = [word for word in command if word.startswith("--")]
    group = words[: 2 if words[0] in ("submissions", "tasks", "records") else 1]
    code, out, _ = beans(*group, "--help")
    assert code == 0
    assert f"beans {' '.join(group)}" in " ".join(out.split())
    assert all(option in out for option in options)


def test_page_names_the_settings_of_the_protocol() -> None:
    """The protocol may move on; its description would then tell readers another one."""
    rules = Protocol()
    prose = " ".join(guide.ABOUT.split())
    assert f"{rules.trials} learning rates from 0.01 to 1" in prose
    assert (rules.lr_low, rules.lr_high) == (0.01, 1.0)
    assert f"trained with {WORDS[rules.seeds]} seeds" in prose
    assert f"{rules.bootstrap} resamples of the test recordings" in prose and rules.bootstrap == RESAMPLES
    assert f"`{Protocol(trials=4).name}`" in prose
