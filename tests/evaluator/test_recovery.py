"""What is lost or damaged is made again or named, and nothing that was computed is lost with it."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from builders import Run, write_clips_task

from evaluator.probes.search import Tried, search
from evaluator.probes.trainer import Trainer
from leaderboard.records.protocol import Protocol
from tasks.support.databases import damaged_file
from tasks.support.errors import UserError

QUICK = ("--trials", 2, "--seeds", 1, "--json")


@pytest.fixture
def small_task(tmp_path: Path) -> Path:
    return write_clips_task(tmp_path / "small", per_label=5)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100])


DAMAGES: dict[str, tuple[str, Callable[[Path], None], bool]] = {
    "lost predictions": ("predictions.safetensors", Path.unlink, False),
    "cut predictions": ("predictions.safetensors", cut, False),
    "a cut record": ("json", cut, False),
    "an empty record": ("json", lambda file: file.write_bytes(b""), False),
    "a damaged note of MLflow": ("mlflow.json", cut, True),
    "a damaged note of the last time": ("confirmed.json", cut, True),
}


def test_a_damaged_file_of_a_result_is_made_again_by_the_same_command(
    beans: Run, statistics: Path, small_task: Path, own_home: Path
) -> None:
    """Such a result was stuck, because its record existed."""
    command = ("submit", statistics, "--tasks", small_task, *QUICK)
    first = json.loads(beans(*command)[1])
    beans(*command)  # writes the note of the last time
    stem = Path(first["record"]).with_suffix("")
    for name, (kind, damage, reused) in DAMAGES.items():
        before = (own_home / "mlflow.db").stat().st_mtime_ns
        file = stem.with_name(f"{stem.name}.{kind}")
        damage(file)
        code, out, err = beans(*command)
        row = json.loads(out)
        assert code == 0 and "Traceback" not in err, (name, err)
        assert (row["test"], row["layers"]) == (first["test"], first["layers"]), name
        assert row["reused"] is reused, name
        assert row["mlflow_run_id"] == first["mlflow_run_id"], (name, before)
        code, out, err = beans("records", "verify", "--all")
        assert code == 0, (name, out)
        row = json.loads(beans(*command)[1])
        assert row["reused"] is True, name
        assert not [line for line in beans(*command)[2].splitlines() if "damaged" in line], name
    assert (stem.with_name(f"{stem.name}.json.damaged")).is_file(), "the unreadable record is kept"


def test_a_record_of_a_newer_suite_is_never_replaced(
    beans: Run, statistics: Path, small_task: Path, own_home: Path
) -> None:
    command = ("submit", statistics, "--tasks", small_task, *QUICK)
    path = Path(json.loads(beans(*command)[1])["record"])
    newer = path.read_text().replace('"schema_version": 1', '"schema_version": 2')
    path.write_text(newer)
    code, _, err = beans(*command)
    assert code == 2 and "is not a record of schema version 1" in err
    assert path.read_text() == newer


def test_a_damaged_database_is_named_with_what_to_do(
    beans: Run, statistics: Path, small_task: Path, own_home: Path, empty_database: Path
) -> None:
    command = ("submit", statistics, "--tasks", small_task, *QUICK)
    run = json.loads(beans(*command)[1])["mlflow_run_id"]
    for name in ("optuna.db", "beans.db", "mlflow.db"):
        for beside in own_home.glob(f"{name}-*"):
            beside.unlink()
        (own_home / name).write_bytes(os.urandom(5000))
    code, out, err = beans(*command)
    assert code == 0 and json.loads(out)["reused"], "a result that exists is shown"
    assert f"MLflow's database {own_home / 'mlflow.db'} is damaged" in err and "`beans records push`" in err
    assert f"database {own_home / 'beans.db'} is damaged" in err and "`beans leaderboard rebuild`" in err
    code, _, err = beans("leaderboard", "show")
    assert code == 2 and f"{own_home / 'beans.db'} is damaged (file is not a database): delete it and run" in err
    code, _, err = beans("submit", statistics, "--tasks", small_task, "--trials", 1, "--seeds", 1)
    assert code == 2 and f"Optuna's database {own_home / 'optuna.db'} is damaged" in err and "delete it" in err
    for name in ("optuna.db", "beans.db"):
        (own_home / name).unlink()
    shutil.copy(empty_database, own_home / "mlflow.db")  # what MLflow makes in place of a deleted file
    assert beans("leaderboard", "rebuild")[1].startswith("The board holds 1 record.")
    assert [one["mlflow_run_id"] == run for one in push()] == [False], "the run went with its database"
    assert push() == []


def push() -> list[dict[str, str]]:
    """In a process of its own: MLflow keeps a connection to a file that was deleted."""
    command = [sys.executable, "-m", "evaluator", "records", "push", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    sent: list[dict[str, str]] = json.loads(done.stdout)["sent"]
    return sent


def test_tables_of_another_program_are_named(tmp_path: Path) -> None:
    file = tmp_path / "optuna.db"
    with sqlite3.connect(file) as connection:
        connection.execute("create table alembic_version (version_num text)")
        connection.execute("insert into alembic_version values ('another')")
    with pytest.raises(UserError, match=rf"delete {file} and run the same command"):
        search(lambda *_: [], Protocol(trials=1), storage=f"sqlite:///{file}", study_name="x")


def test_trials_that_an_older_version_stored_are_searched_again(tmp_path: Path) -> None:
    """A study with a loss that is no number stopped every later run of the same command."""
    storage = f"sqlite:///{tmp_path / 'optuna.db'}"
    losses = [float("nan"), 1.0]

    def train(rates: list[float], begin: float, end: float) -> list[Tried]:
        loss = losses.pop(0)
        return [Tried(valid=[0.5], epoch=[1], loss=[loss], looks=1) for _ in rates]

    trials = search(train, Protocol(trials=1), storage=storage, study_name="x")
    assert [trial.loss for trial in trials] == [[1.0]] and not losses


def test_a_board_is_shown_where_the_home_cannot_be_written(
    beans: Run, statistics: Path, small_task: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example a home on a disk that is mounted read-only. Root may write everywhere, so the answer is given."""
    beans("submit", statistics, "--tasks", small_task, *QUICK)
    before = {path: path.stat().st_mtime_ns for path in own_home.rglob("*")}
    monkeypatch.setattr("leaderboard.database.engine.os.access", lambda path, mode: mode != os.W_OK)
    code, out, err = beans("leaderboard", "show", "--json")
    assert code == 0 and json.loads(out)[0]["protocol"] == "beans-probe/2+trials=2+seeds=1", err
    assert {path: path.stat().st_mtime_ns for path in own_home.rglob("*")} == before
    with sqlite3.connect(own_home / "beans.db") as connection:
        connection.execute("update alembic_version set version_num = '0001'")
    shutil.rmtree(own_home / "features")
    code, _, err = beans("leaderboard", "show")
    assert code == 2 and "has an older schema and cannot be written" in err


def test_a_result_that_verify_refuses_is_not_published(
    beans: Run, tmp_path: Path, small_task: Path, own_home: Path
) -> None:
    """A training that diverges has predictions that are no numbers."""
    from builders import write_submission

    (tmp_path / "mine.py").write_text(
        "import torch\nfrom evaluator.backbone import Layer\n"
        "class Mine(torch.nn.Module):\n"
        "    sample_rate, min_samples, layers = 16_000, 400, [Layer('a', 3)]\n"
        "    def encode(self, waveforms, lengths):\n"
        "        f = waveforms.unfold(1, 400, 400).std(-1)[..., None] * torch.tensor([1e36, 2e36, 3e36])\n"
        "        return [f], lengths // 400\n"
    )
    file = write_submission(tmp_path / "mine.toml", 'loader = "python"\ntarget = "mine:Mine"')
    papers = ("--protocol", "papers", "--lr", "1e6", "--seeds", 1, "--json")
    code, out, err = beans("submit", file, "--tasks", small_task, *papers)
    assert code == 2 and not out, (out, err)
    assert "not published, because a predicted score is not a finite number: training diverged" in err, err
    assert not list((own_home / "records").glob("*.safetensors"))


def test_memory_that_runs_out_in_training_is_one_sentence_and_the_features_are_kept(
    beans: Run, statistics: Path, small_task: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def all_memory(self: Trainer, *_: object) -> None:
        torch.empty(2**50)

    monkeypatch.setattr(Trainer, "rates", all_memory)
    command = ("submit", statistics, "--tasks", small_task, *QUICK)
    code, out, err = beans(*command)
    assert code == 2 and not out and "Traceback" not in err
    assert "Memory ran out while probes were trained on 12 items of 4 classes: use a machine" in err
    assert list(own_home.glob("features/*/*.safetensors"))


@pytest.mark.parametrize("reason", ["database or disk is full", "disk I/O error", "database is locked"])
def test_a_good_database_is_never_said_to_be_damaged(reason: str) -> None:
    """The advice is to delete it."""
    assert damaged_file("sqlite:////home/beans.db", reason) is None
    assert damaged_file("sqlite:////home/beans.db", "file is not a database") == Path("/home/beans.db")
    assert damaged_file("postgresql://me:secret@host:x/beans", "file is not a database") is None
