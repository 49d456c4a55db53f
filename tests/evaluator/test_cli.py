"""The command line's manners: help with examples, machine-readable output, and quick answers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from builders import Run

sys.path.insert(0, str(Path(__file__).parents[1] / "leaderboard"))

from factory import make_record

from leaderboard.store import Store
from tasks.home import Home

COMMANDS = [
    ("submit",), ("check",), ("profile",), ("study", "vram"), ("doctor",), ("tasks", "list"),
    ("tasks", "show"), ("tasks", "prepare"),
    ("tasks", "verify"), ("tasks", "items"), ("submissions", "list"),
    ("submissions", "show"), ("submissions", "new"), ("records", "list"), ("records", "push"), ("leaderboard", "show"),
    ("leaderboard", "serve"), ("leaderboard", "rebuild"), ("leaderboard", "export"),
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(beans: Run, command: tuple[str, ...]) -> None:
    code, out, _ = beans(*command, "--help")
    assert code == 0
    assert "Example:" in out and f"beans {' '.join(command)}" in out


def test_help_loads_nothing_heavy_and_touches_nothing(tmp_path: Path) -> None:
    """`beans --help` must answer at once and leave no trace."""
    script = (
        "import sys; sys.argv = ['beans', '--help']\n"
        "from evaluator.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'mlflow', 'optuna', 'streamlit', 'transformers', 'sqlalchemy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_doctor_reports_versions_devices_and_paths(beans: Run, own_home: Path) -> None:
    code, out, err = beans("doctor", "--json")
    assert code == 0, err
    found = {check["check"]: check for check in json.loads(out)}
    assert found["torch"]["found"].startswith("2.11")
    assert str(own_home) in found["home (BEANS_HOME)"]["found"]
    assert all(check["ok"] for check in found.values())


def test_doctor_does_not_show_passwords(beans: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEANS_DATABASE_URL", "postgresql+psycopg://me:secret@db/board")
    _, out, _ = beans("doctor")
    assert "secret" not in out and "db/board" in out.replace("\n", "")


def test_tasks_are_listed_with_the_reason_why_one_is_not_prepared(beans: Run) -> None:
    _, out, _ = beans("tasks", "list", "--json")
    found = {row["name"]: row for row in json.loads(out)}
    assert not found["mini-calls"]["prepared"]
    assert "beans tasks prepare mini-calls" in found["mini-calls"]["reason"]


def test_a_task_file_is_shown_with_its_counts(beans: Run, clips_task: Path) -> None:
    code, out, _ = beans("tasks", "show", clips_task, "--json")
    assert code == 0
    shown = json.loads(out)
    assert shown["items"] == {"train": 36, "valid": 12, "test": 12}
    assert shown["labels"] == ["high", "low", "mid", "top"]


def test_committed_submissions_are_listed_and_shown(beans: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    code, out, _ = beans("submissions", "list", "--json")
    assert code == 0
    assert {"statistics", "hubert-base", "wavlm-large"} <= {row["name"] for row in json.loads(out)}
    code, out, _ = beans("submissions", "show", "wavlm-large", "--json")
    assert code == 0 and json.loads(out)["model"] == "microsoft/wavlm-large"


def test_an_empty_board_says_what_to_do(beans: Run) -> None:
    code, out, _ = beans("leaderboard", "show")
    assert code == 0 and "beans submit" in out


def test_the_board_in_the_terminal_says_what_overlaps_and_whose_code_ran(beans: Run, own_home: Path) -> None:
    """A reader of the terminal must not see a cleaner board than one in the browser."""
    about: dict[str, object] = {"pretraining": [{"data": "FSD50K", "domain": "general audio"}]}
    record = make_record("heard-it", "esc50", group="auxiliary", about=about)
    arguments = {**record.submission.arguments, "trust_remote_code": True}
    record = record.model_copy(update={"submission": record.submission.model_copy(update={"arguments": arguments})})
    Store(Home.from_environment().database_url).publish(record)
    reason = "pretrained on FSD50K, which like esc50 is drawn from Freesound"
    code, out, _ = beans("leaderboard", "show")
    assert code == 0
    assert f"heard-it: {reason}" in out and "0.700 †" in out
    assert "heard-it ‡" in out and "trust_remote_code" in out
    code, out, _ = beans("leaderboard", "show", "--json")
    (board,) = json.loads(out)
    (row,) = board["rows"]
    cell = row["cells"][[column["task"] for column in board["columns"]].index("esc50")]
    assert cell["overlap"] == [reason] and cell["result"]["remote_code"] is True
