"""The command line's manners: help with examples, machine-readable output, and quick answers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from builders import Run

sys.path.insert(0, str(Path(__file__).parents[1] / "leaderboard"))

from consistent import write_consistent
from factory import make_record

from evaluator.cli import doctor
from leaderboard.database.store import Store
from leaderboard.records.files import NOTES, write_record
from tasks.support.home import Home

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


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("sumbit",), "No such command 'sumbit'. Did you mean 'submit'? (see `beans --help`)."),
        (("submit",), "Missing argument 'submission' (see `beans submit --help`)."),
        (
            ("tasks", "list", "--jsn"),
            "No such option: --jsn (Possible options: --json) (see `beans tasks list --help`).",
        ),
        (
            ("tasks", "prepare", "esc50", "--from", "\x1b[2Jhere"),
            "There is no task source '\\x1b[2Jhere': choose from beans, generated, huggingface, origin.",
        ),
        (
            ("submit", "a.toml", "--device", "\x1b[2Jhere"),
            "Invalid value for '--device': '\\x1b[2Jhere' is not one of 'auto', 'cpu', 'cuda'"
            " (see `beans submit --help`).",
        ),
        (
            ("leaderboard", "serve", "--port", "70000"),
            "Invalid value for '--port': Input should be less than or equal to 65535"
            " (see `beans leaderboard serve --help`).",
        ),
    ],
)
def test_a_mistake_in_the_command_itself_is_one_sentence(beans: Run, arguments: tuple[str, ...], sentence: str) -> None:
    """A box that is folded to the terminal's width can be neither searched for nor read by a script."""
    code, out, err = beans(*arguments)
    assert (code, out) == (2, "")
    assert err == f"Error: {sentence}\n"


@pytest.mark.parametrize("group", [(), ("leaderboard",)])
def test_without_arguments_the_help_is_shown(beans: Run, group: tuple[str, ...]) -> None:
    code, out, err = beans(*group)
    assert code == 2 and "Example: beans" in out and err == ""


def test_no_help_loads_anything_heavy_or_touches_anything(tmp_path: Path) -> None:
    """The help of every command must answer at once and leave no trace."""
    script = """
import sys
import typer
from evaluator.cli import app

HEAVY = {"torch", "numpy", "pandas", "mlflow", "optuna", "streamlit", "transformers", "sqlalchemy"}

def commands(command, *words):
    yield words
    for name in command.list_commands(None) if hasattr(command, "list_commands") else ():
        yield from commands(command.get_command(None, name), *words, name)

asked = set()
for words in commands(typer.main.get_command(app)):
    app([*words, "--help"], prog_name="beans", standalone_mode=False)
    assert not HEAVY & set(sys.modules), (words, HEAVY & set(sys.modules))
    asked.add(words)
assert {(), ("submit",), ("leaderboard",), ("leaderboard", "show"), ("study", "vram")} <= asked, asked
"""
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


def test_doctor_counts_records_and_says_what_needs_the_parts_that_are_not_there(
    beans: Run, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_record(own_home / "records", make_record("one", "esc50", group="auxiliary"))
    for note in NOTES:
        path.with_suffix(f".{note}.json").write_text("{}")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setattr(doctor, "_EXTRAS", (("no-such-package", "nothing", "`make it`"),))
    code, out, _ = beans("doctor", "--json")
    found = {check["check"]: check for check in json.loads(out)}
    assert found["records"]["found"] == "1", "notes beside a record are none"
    assert code == 0, "an installation without them is whole"
    assert found["no-such-package"]["found"] == "not installed; needed for nothing: `make it`"
    assert found["no-such-package"]["status"] == found["Chromium (CHROMIUM)"]["status"] == "optional"
    assert "PostgreSQL server" in found
    assert {"espnet", "mamba-ssm", "causal-conv1d"} <= found.keys(), "what the loaders need"
    monkeypatch.undo()
    assert [name for name, *_ in doctor._EXTRAS] == ["kaggle"]


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


def test_a_submission_with_a_mistake_is_listed_among_the_others(beans: Run, tmp_path: Path) -> None:
    """A file that somebody is still writing must not keep a script from those that are there."""
    (tmp_path / "a.toml").write_text('[submission]\nname = "a"\n')
    (tmp_path / "b.toml").write_text('[submission]\nname = "bee"\nloader = "statistics"\n')
    code, out, err = beans("submissions", "list", "--directory", tmp_path, "--json")
    broken, good = json.loads(out)
    assert code == 0 and err.count("a.toml has no key loader") == err.count("\n") == 1
    assert broken["name"] == "a" and "has no key loader" in broken["error"] and broken.keys() == good.keys()
    assert good["name"] == "bee" and not good["error"]
    code, out, _ = beans("submissions", "list", "--directory", tmp_path)
    assert code == 0 and "broken" in out and "bee" in out


def test_an_empty_board_says_what_to_do_and_where_it_looked(beans: Run, own_home: Path) -> None:
    """In another directory than usual it is another home."""
    code, out, _ = beans("leaderboard", "show")
    assert code == 0 and "beans submit" in out and str(own_home) in out and "BEANS_HOME" in out


def test_legends_stand_once_below_all_boards(beans: Run, own_home: Path) -> None:
    for track in ("ta", "twa"):
        write_consistent(own_home / "records", "one", track=track)
    code, out, _ = beans("leaderboard", "rebuild")
    assert code == 0 and "The board holds 2 records." in out
    code, out, _ = beans("leaderboard", "show")
    assert code == 0 and out.count("own tasks") == 2
    for start in ("3 (2-5), for example, is", "Ranks that share a group", "Borda:", "Tasks with few", "VRAM (peak"):
        assert out.count(start) == 1, start
    assert out.index("3 (2-5)") > out.rindex("own tasks")


def test_items_that_cannot_be_read_leave_no_table(beans: Run, tmp_path: Path) -> None:
    """A file with a header alone looks like a task without items."""
    code, out, err = beans("tasks", "items", "watkins")
    assert (code, out) == (2, "") and "beans tasks prepare watkins" in err


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
