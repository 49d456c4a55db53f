"""`beans profile`: what it measures is what is there, and what goes wrong on the way is a result."""

import json
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import profiled_models
import pytest
import torch
from mlflow import MlflowClient

from evaluator.efficiency import measure_in_fresh_process
from evaluator.efficiency.curve import walk
from evaluator.efficiency.fresh import NoAnswerError, ask
from evaluator.efficiency.profiling import profile
from evaluator.submission import Submission
from leaderboard.database.profiles import profiles, rebuild
from leaderboard.database.store import Store
from leaderboard.records.profile import Point, Profile, profile_paths
from tasks.support.errors import UserError
from tasks.support.home import Home

Run = Callable[..., tuple[int, str, str]]
MIB = 2**20


@pytest.fixture
def submission(tmp_path: Path) -> Callable[[str], Path]:
    """Write a submission file of one of ``profiled_models``."""

    def write(model: str) -> Path:
        shutil.copy(profiled_models.__file__, tmp_path / "profiled_models.py")
        path = tmp_path / f"{model.lower()}.toml"
        target = f"profiled_models:{model}"
        path.write_text(f'[submission]\nname = "{model.lower()}"\nloader = "python"\ntarget = "{target}"\n')
        return path

    return write


def question(path: Path) -> dict[str, Any]:
    """For one length or another. To count multiply-adds loads half of torch, and is tested elsewhere."""
    return {"measure": {"submission": str(path)}, "device": "cpu", "count": False}


def run_profile(path: Path, home: Path, lengths: tuple[float, ...] = (1, 4, 8), **more: Any) -> Profile:
    settings: dict[str, Any] = {"device": "cpu", "timeout": 120, **more}
    return profile(Submission.read(path), lengths, home / "profiles", **settings)


def curve(path: Path, lengths: tuple[float, ...], timeout: float = 120, **more: Any) -> list[dict[str, Any]]:
    return list(walk(question(path), lengths, timeout=timeout, **{"known": {}, **more}))


def outcomes(found: Profile) -> list[tuple[float, str, bool]]:
    return [(point.seconds, point.outcome, point.inferred) for point in found.points]


@pytest.mark.parametrize(("model", "mebibytes"), [("Known", 80), ("FreedBefore", 0), ("Pieces", 48)], ids=str)
def test_peak_of_host_memory_is_what_a_pass_takes(
    submission: Callable[[str], Path], model: str, mebibytes: int
) -> None:
    """Freed before the peak, freed before the pass, or kept by the C library: the number must not change."""
    found = ask({**question(submission(model)), "seconds": 1}, 120)
    assert found["weights_bytes"] == 8 * MIB
    assert found["peak_bytes"] - found["weights_bytes"] == pytest.approx(mebibytes * MIB, abs=6 * MIB)
    assert found["reserved_bytes"] is None, "a CPU has no allocator that reserves"
    assert 0 < found["latency_seconds"] <= found["latency_p90_seconds"]
    assert found["runs"] == 10


@pytest.mark.slow
def test_a_clip_that_does_not_fit_is_a_result_and_longer_ones_are_not_tried(
    submission: Callable[[str], Path],
) -> None:
    points = curve(submission("Greedy"), (1, 4, 8))
    found = [(point["seconds"], point["outcome"], point["inferred"]) for point in points]
    assert found == [(1, "measured", False), (4, "out of memory", False), (8, "out of memory", True)]
    assert "allocate memory" in points[1]["detail"]
    assert points[2]["detail"] == "not tried: out of memory at 4 s"


def test_a_process_that_the_system_kills_ran_out_of_memory(submission: Callable[[str], Path]) -> None:
    (point,) = curve(submission("Killed"), (4,))
    assert point["outcome"] == "out of memory"
    assert "SIGKILL" in point["detail"]


def test_a_real_limit_of_memory_is_met_and_named(submission: Callable[[str], Path]) -> None:
    """The limit of a container or a shell, which a child inherits."""
    limit = 12 * 2**30
    growing = question(submission("Growing"))

    def answer(seconds: float) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "evaluator.efficiency", json.dumps({**growing, "seconds": seconds})],
            capture_output=True,
            text=True,
            check=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        )
        return dict(json.loads(done.stdout.splitlines()[-1]))

    assert "answer" in answer(1)
    assert answer(13)["cause"] == "out of memory"


def test_what_takes_too_long_is_a_result_that_more_time_may_change(submission: Callable[[str], Path]) -> None:
    path = submission("Slow")
    first = curve(path, (4, 8), timeout=0.5)
    assert [(point["outcome"], point["inferred"]) for point in first] == [("timeout", False), ("timeout", True)]
    assert first[0]["detail"] == "no answer within 0.5 s"
    known = {point["seconds"]: point for point in first}
    assert curve(path, (4, 8), timeout=0.5, known=known) == first, "the same limit is not tried again"
    again = curve(path, (4, 8), timeout=1, known=known)
    assert again[0]["detail"] == "no answer within 1 s"


@pytest.mark.slow
def test_a_length_that_fails_is_said_and_the_others_are_measured(submission: Callable[[str], Path]) -> None:
    failed, measured = curve(submission("Picky"), (4, 8))
    assert (failed["outcome"], failed["detail"]) == ("failed", "ValueError: no clips of four seconds")
    assert measured["outcome"] == "measured"


@pytest.mark.slow
def test_interrupted_it_goes_on_where_it_was_and_measures_nothing_twice(
    submission: Callable[[str], Path], own_home: Path
) -> None:
    path = submission("Counting")
    ran = path.parent / "ran.txt"
    (path.parent / "wait").touch()
    command = [sys.executable, "-m", "evaluator", "profile", str(path), "--seconds", "4,1", "--device", "cpu"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (path.parent / "waiting").exists():
        assert time.monotonic() < deadline and process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1].startswith("Error: Interrupted")
    (kept,) = profile_paths(own_home / "profiles")
    first = Profile.model_validate_json(kept.read_text())
    assert outcomes(first) == [(1, "measured", False)]
    assert ran.read_text().split() == ["1", "4"], "the shortest comes first"

    (path.parent / "wait").unlink()
    second = run_profile(path, own_home, (8, 1, 4))
    assert outcomes(second) == [(1, "measured", False), (4, "measured", False), (8, "measured", False)]
    assert ran.read_text().split() == ["1", "4", "4", "8"]
    assert second.points[0] == first.points[0]
    third = run_profile(path, own_home, (1,), again=True)
    assert ran.read_text().split() == ["1", "4", "4", "8", "1"]
    assert [point.seconds for point in third.points] == [1, 4, 8], "what was not asked for again stays"
    assert third.id == second.id == first.id
    assert len(list(profile_paths(own_home / "profiles"))) == 1

    # Another batch, precision or edited model is another profile.
    assert run_profile(path, own_home, (), batch=2).id != first.id
    assert run_profile(path, own_home, (), precision="bf16").id != first.id
    models = path.parent / "profiled_models.py"
    models.write_text(models.read_text() + "\n# edited\n")
    assert run_profile(path, own_home, ()).id != first.id


def test_command_line_writes_file_database_and_mlflow_which_may_be_down_at_first(
    submission: Callable[[str], Path], beans: Run, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = submission("Known")
    with monkeypatch.context() as down:
        down.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        down.setenv("BEANS_DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
        code, _, errors = beans("profile", path, "--seconds", "1", "--device", "cpu")
    assert code == 0
    assert "The profile is kept" in errors and "the profile is kept" in errors
    assert f"beans profile {path} --seconds 1" in errors, "what sends it later must be said"
    (kept,) = profile_paths(own_home / "profiles")
    code, out, errors = beans("profile", path, "--seconds", "1,4", "--device", "cpu", "--json")
    assert code == 0, errors
    (said,) = json.loads(out)
    assert said["memory"] == "host memory", "host memory must never be taken for VRAM"
    assert said["kind"] == "cpu"
    activation = [point["activation_bytes"] for point in said["points"]]
    assert activation == [pytest.approx(80 * MIB, abs=6 * MIB)] * 2
    point = said["points"][1]
    assert point["audio_seconds_per_second"] == pytest.approx(4 / point["latency_seconds"])
    home = Home.from_environment()
    (stored,) = profiles(Store(home.database_url))
    assert stored.id == said["id"] and len(stored.points) == 2
    assert stored.id in kept.name, "what was measured while the servers were down is lost"
    client = MlflowClient(tracking_uri=home.tracking_uri)
    experiment = client.get_experiment_by_name("beans-efficiency")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == f"known · profile · {stored.device}"
    assert run.data.tags["profile_id"] == stored.id and run.data.tags["backbone"] == "known"
    history = client.get_metric_history(run.info.run_id, "host.peak_bytes")
    assert {entry.step: entry.value for entry in history} == {
        1: stored.points[0].peak_bytes,
        4: stored.points[1].peak_bytes,
    }
    assert not any(name.startswith("vram") for name in run.data.metrics)
    # With one more point there is still one run, and it has them all; the table is for people.
    code, out, _ = beans("profile", path, "--seconds", "1,4,8", "--device", "cpu")
    assert code == 0
    assert "peak host memory" in out and "not VRAM" in out
    (run,) = client.search_runs([experiment.experiment_id])
    assert len(client.get_metric_history(run.info.run_id, "latency_seconds")) == 3
    # The file is the truth: a database that is lost comes back from it.
    (home.root / "beans.db").unlink()
    assert rebuild(Store(home.database_url), home.root / "profiles") == 1
    assert len(profiles(Store(home.database_url))[0].points) == 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--seconds", "1,x"], '--seconds: "x" is no number; write for example --seconds 1,5'),
        (["--seconds", "inf"], '--seconds: "inf" is no finite number; write'),
        (["--timeout", "inf"], "Invalid value for '--timeout': Input should be less than or equal to 86400"),
        (["--seconds", ","], "--seconds names no number: write for example --seconds 1,5,10"),
        (["--precision", "fp16"], "--precision fp16 is unknown: choose from fp32, bf16"),
        (["--device", "tpu"], "Invalid value for '--device': 'tpu' is not one of 'auto', 'cpu', 'cuda'"),
    ],
)
def test_wrong_options_are_one_sentence(
    submission: Callable[[str], Path], beans: Run, arguments: list[str], sentence: str
) -> None:
    code, out, errors = beans("profile", submission("Quiet"), *arguments)
    assert code == 2 and out == ""
    assert errors.startswith(f"Error: {sentence}") and errors.count("\n") == 1


def test_a_model_that_cannot_be_loaded_is_the_submitters_to_mend(tmp_path: Path, own_home: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text('[submission]\nname = "broken"\nloader = "python"\ntarget = "missing_models:load"\n')
    with pytest.raises(UserError, match=r"Submission broken .*missing_models.py does not exist"):
        run_profile(path, own_home)


@pytest.mark.slow
def test_a_model_that_runs_at_no_length_ends_with_its_error(
    submission: Callable[[str], Path], beans: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    code, _, errors = beans("profile", submission("Picky"), "--seconds", "4", "--device", "cpu")
    assert code == 2
    sentence = "Error: Submission picky could not be run at any length: ValueError: no clips of four seconds."
    assert errors.splitlines()[-1] == sentence


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine with a CUDA device")
def test_cost_of_a_record_that_cannot_be_measured_has_a_reason(submission: Callable[[str], Path]) -> None:
    """It is kept in the record in place of the number."""
    with pytest.raises(RuntimeError, match=r"CUDA|NVIDIA"):
        measure_in_fresh_process(submission("Quiet"), "fp32")


def test_no_answer_says_how_the_process_ended() -> None:
    with pytest.raises(NoAnswerError, match="KeyError: 'measure'") as caught:
        ask({"unknown": 1}, 60)
    assert caught.value.cause == "failed"


def test_a_point_is_measured_or_has_none() -> None:
    with pytest.raises(ValueError, match="latency exactly when it was measured"):
        Point(seconds=1, outcome="measured")
