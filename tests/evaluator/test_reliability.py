"""The safety nets, each tripped for real: SIGKILL, two processes at once, a full disk, MLflow or the database down."""

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from builders import SMALL, Run, write_clips_task, write_submission
from quick_processes import QuickProcess

import evaluator.features.clips
from evaluator.cli import main
from leaderboard.database.store import Store
from leaderboard.records.files import read_record, record_paths
from tasks.support.home import Home

OPTIONS = ("--track", "ta,twa", "--trials", "10", "--seeds", "2", "--json")
NEVER = ("evaluator.features.store:store", 10**6, "before")
SHARD_SECONDS = 4.0
TIMES = {"created", "seconds", "environment"}


def beans_until(where: str, calls: int, moment: str, *arguments: str) -> None:
    """Run the command line and kill this process, as SIGKILL does, at the n-th call of one function."""
    module_name, _, path = where.partition(":")
    *owners, name = path.split(".")
    owner: Any = importlib.import_module(module_name)
    for each in owners:
        owner = getattr(owner, each)
    evaluator.features.clips._SHARD_SECONDS = SHARD_SECONDS
    original, left = getattr(owner, name), calls

    def dying(*positional: object, **named: object) -> object:
        nonlocal left
        left -= 1
        if left == 0 and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*positional, **named)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, dying)
    sys.argv = ["beans", *arguments]
    main()


def numbers(records: Path) -> dict[str, object]:
    """Everything in the records that is not a time."""
    found = {}
    for path in record_paths(records):
        content = read_record(path).model_dump(mode="json", exclude=TIMES)
        found[path.name] = content
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, object]]:
    """A submission, a task, and the numbers of a run that nobody disturbs."""
    root = tmp_path_factory.mktemp("undisturbed")
    task = write_clips_task(root / "clips")
    settings = "\n".join(f"{key} = {json.dumps(value)}" for key, value in SMALL.items())
    submission = write_submission(
        root / "tiny.toml",
        f'loader = "huggingface"\nweights = "random"\narchitecture = "hubert"\n[submission.config]\n{settings}',
    )
    code, _, errors = start(*NEVER, submission, task, root / "home").end()
    assert code == 0, errors
    return submission, task, numbers(root / "home" / "records")


def start(where: str, calls: int, moment: str, submission: Path, task: Path, home: Path) -> QuickProcess:
    arguments = ["submit", str(submission), "--tasks", str(task), *OPTIONS]
    home.mkdir(exist_ok=True)
    return QuickProcess(
        home.parent, beans_until, where, calls, moment, *arguments, environment={"BEANS_HOME": str(home)}
    )


# Each kill strikes a run that continues after the one before, as a preemptible machine would.
ON_THE_WAY_TO_THE_TRIALS = [
    ("evaluator.features.store:store", 3, "before"),
    ("evaluator.features.shards:_write", 4, "after"),
    ("pathlib:Path.replace", 5, "before"),
    ("optuna:Study.ask", 4, "after"),
    ("optuna:Study.tell", 7, "after"),
]
ON_THE_WAY_TO_THE_BOARD = [
    ("optuna:Study.tell", 9, "before"),
    ("evaluator.results.assemble:write_predictions", 1, "after"),
    ("leaderboard.records.stored:write_record", 1, "after"),
    ("evaluator.results.publish:log_record", 1, "after"),
    ("leaderboard.database.store:Store.publish", 2, "before"),
]


@pytest.mark.slow
@pytest.mark.parametrize("kills", [ON_THE_WAY_TO_THE_TRIALS, ON_THE_WAY_TO_THE_BOARD], ids=["trials", "board"])
def test_killed_again_and_again_the_same_command_ends_with_the_same_numbers(
    tmp_path: Path, undisturbed: tuple[Path, Path, dict[str, object]], kills: list[tuple[str, int, str]]
) -> None:
    """Bit for bit: a result must not depend on how often the machine went down on the way to it."""
    submission, task, expected = undisturbed
    home = tmp_path / "home"
    for where, calls, moment in kills:
        code, _, errors = start(where, calls, moment, submission, task, home).end()
        assert code == -signal.SIGKILL, (where, errors)
    code, _, errors = start(*NEVER, submission, task, home).end()
    assert code == 0, errors
    assert numbers(home / "records") == expected
    results = Store(Home.at(home).database_url).results()
    assert {(result.task, result.track) for result in results} == {("tones", "ta"), ("tones", "twa")}
    assert all(result.run is not None for result in results)


def test_two_processes_on_one_home_end_with_one_result_each_right(
    tmp_path: Path, undisturbed: tuple[Path, Path, dict[str, object]]
) -> None:
    submission, task, expected = undisturbed
    home = tmp_path / "home"
    both = [start(*NEVER, submission, task, home) for _ in range(2)]
    ended = [process.end() for process in both]
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert numbers(home / "records") == expected
    reused = [json.loads(line)["reused"] for _, out, _ in ended for line in out.splitlines()]
    assert sorted(reused) == [False, False, True, True]


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system of its own can only be mounted by root")
def test_a_full_disk_is_one_sentence_and_what_is_done_is_kept(
    beans: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: tuple[Path, Path, dict[str, object]]
) -> None:
    submission, task, expected = undisturbed
    home = tmp_path / "small-disk"
    home.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=60k", "none", str(home)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("this machine may not mount a file system")
    try:
        monkeypatch.setenv("BEANS_HOME", str(home))
        monkeypatch.setattr("evaluator.features.clips._SHARD_SECONDS", SHARD_SECONDS)
        code, _, err = beans("submit", submission, "--tasks", task, *OPTIONS)
        assert code == 2
        assert "The disk is full" in err and "Traceback" not in err
        kept = list(home.rglob("*.safetensors"))
        assert kept, "the shards that fitted must stay"
        assert not list(home.rglob(".*safetensors*")), "nothing half-written may stay"
        subprocess.run(["mount", "-o", "remount,size=200m", str(home)], check=True)
        code, _, err = beans("submit", submission, "--tasks", task, *OPTIONS)
        assert code == 0, err
        assert numbers(home / "records").keys() == expected.keys()
    finally:
        # Lazily: this process still has the databases on it open.
        subprocess.run(["umount", "--lazy", str(home)], check=False)


def test_mlflow_down_loses_nothing_and_push_sends_it_later(
    beans: Run, own_home: Path, statistics: Path, clips_task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    code, out, err = beans("submit", statistics, "--tasks", clips_task, "--trials", 2, "--seeds", 1, "--json")
    assert code == 0
    row = json.loads(out)
    assert row["mlflow_run_id"] is None and Path(row["record"]).is_file()
    assert "beans records push" in err and "Traceback" not in err
    code, _, err = beans("records", "push")
    assert code == 2 and "127.0.0.1:9" in err
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    code, out, _ = beans("records", "push", "--json")
    assert code == 0 and len(json.loads(out)["sent"]) == 1
    _, out, _ = beans("records", "list", "--json")
    assert json.loads(out)[0]["mlflow_run_id"] is not None


def test_the_database_down_loses_nothing_and_rebuild_puts_it_on_the_board(
    beans: Run, statistics: Path, clips_task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEANS_DATABASE_URL", "postgresql+psycopg://me:secret@127.0.0.1:9/board")
    code, out, err = beans("submit", statistics, "--tasks", clips_task, "--trials", 2, "--seeds", 1, "--json")
    assert code == 0 and json.loads(out)["test"] > 0
    assert "beans leaderboard rebuild" in err and "secret" not in err and "Traceback" not in err
    monkeypatch.delenv("BEANS_DATABASE_URL")
    code, out, _ = beans("leaderboard", "rebuild")
    assert code == 0 and "1 record" in out
    _, out, _ = beans("leaderboard", "show", "--json")
    assert json.loads(out)[0]["rows"][0]["submission"] == "statistics"
