"""The benchmarks themselves, on a CPU and at sizes that say nothing about speed."""

import functools
import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from evaluator.backbone import Layer

ROOT = Path(__file__).resolve().parents[2]
TINY = "--train 70 --valid 40 --classes 4 --layers 3 --width 16 --rates 5 --rates-at-once 3 --epochs 6 --seconds 0.3"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``benchmarks.gpu``; the benchmarks are no installed package."""
    monkeypatch.syspath_prepend(str(ROOT))
    import benchmarks.gpu

    return benchmarks.gpu


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a benchmark's command line in this process, which has imported what it needs: exit code, stdout, stderr."""
    monkeypatch.syspath_prepend(str(ROOT))

    def run(name: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        try:
            code = importlib.import_module(name).main()
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return run


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_sweep_measures_three_ways_and_finds_them_in_agreement(benchmark: Any, tmp_path: Path) -> None:
    path = tmp_path / "sweep.json"
    options = [*TINY.split(), "--alone", "4", "--forward-clips", "2", "--repetitions", "2", "--device", "cpu"]
    code, printed, errors = benchmark("benchmarks.sweep", "--track", "ta,twa", *options, "--json", str(path))
    assert code == 0, errors
    assert "measured on 4 of 15 probes and scaled up" in printed
    content = json.loads(path.read_text())
    assert {"cpu", "threads", "torch", "command"} <= set(content["machine"])
    assert [entry["track"] for entry in content["tracks"]] == ["ta", "twa"]
    for entry in content["tracks"]:
        assert len(entry["batched_seconds"]) == len(entry["one_by_one_seconds"]) == len(entry["forward_seconds"]) == 2
        assert entry["batched_over_one_by_one"] > 0 and entry["batched_over_forward"] > 0
        assert entry["steady_difference"] <= 1.5 / 40


@pytest.mark.slow
def test_peers_search_the_same_task_and_are_compared_on_the_same_pairs(
    benchmark: Any, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "peers.json"
    # The task that it prepares was prepared before.
    copy = "benchmarks.peers.prepare"
    monkeypatch.setattr(copy, lambda name, data: shutil.copytree(prepared / name, data / name))
    options = ["--model", "hubert-small", "--limit", "10", "--measured", "3", "--epochs", "2", "--json", str(path)]
    code, _, errors = benchmark("benchmarks.peers", *options)
    content = json.loads(path.read_text())
    suite, alone, rerun, sklearn = content["ways"]
    assert [way["name"] for way in content["ways"]] == ["suite", "one by one", "rerun", "sklearn"]
    assert (content["pairs"], suite["pairs"], alone["pairs"], rerun["valid"]) == (5 * 16, 5 * 16, 3, None)
    # The same probes, trained alone: of ten answers rounding may flip one.
    assert abs(alone["valid"] - alone["suite_valid"]) <= 0.11
    assert all(way["seconds"] > 0 for way in content["ways"])
    # Running the backbone for every pair and epoch takes at least as often a forward pass.
    assert rerun["seconds"] > suite["seconds"]
    better = [
        peer["name"]
        for peer, best in ((alone, alone["suite_valid"]), (sklearn, suite["valid"]))
        if peer["valid"] - best > 0.02
    ]
    assert code == (1 if better else 0)
    assert all(name in errors for name in better)


def test_a_search_that_takes_more_memory_than_stated_fails(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import memory

    path = tmp_path / "memory.json"
    monkeypatch.setattr(sys, "argv", ["benchmarks.memory", "--task", "dogs", "--alone", "--epochs", "2"])
    monkeypatch.setattr(memory, "SIZES", {"dogs": memory.Size(50, 20, 10, "accuracy")})
    assert memory.main() == 0
    alone = capsys.readouterr().out
    monkeypatch.setattr(subprocess, "run", lambda *args, **kw: subprocess.CompletedProcess(args, 0, alone, ""))
    monkeypatch.setattr(sys, "argv", ["benchmarks.memory", "--task", "dogs", "--json", str(path)])
    assert memory.main() == 0
    (found,) = json.loads(path.read_text())["found"]
    assert found["peak"] >= found["before"] > 2**26 and found["epoch_seconds"] > 0
    monkeypatch.setattr(memory, "_LIMIT", -1)
    assert memory.main() == 1
    assert "GiB: dogs" in capsys.readouterr().err


@pytest.mark.slow
def test_a_first_probe_that_waits_longer_than_the_goal_fails(
    benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "warm.json"
    options = ["--windows", "1", "--repetitions", "1", "--json", str(path)]
    assert benchmark("benchmarks.warm", *options)[0] in (0, 1)
    (found,) = json.loads(path.read_text())["found"]
    # Three recordings of two minutes, in windows of 2 s that begin a second apart.
    assert found["items"] == 3 * 119 and found["known"] > 0 and found["read"] > 0
    monkeypatch.setattr("benchmarks.warm._GOAL", 0.0)
    code, printed, errors = benchmark("benchmarks.warm", *options)
    assert code == 1 and "357 windows, 13 layers of 768" in printed
    assert errors == "The first probe waits for longer than the goal.\n"


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine with a CUDA device")
def test_without_a_gpu_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    done = run("-m", "benchmarks.gpu", "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert done.stderr == "make gpu needs a CUDA device, and torch sees none on this machine.\n"
    assert not (tmp_path / "out").exists()


def test_a_part_that_fails_is_reported_and_the_others_still_run(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def part(name: str, code: str, **settings: Any) -> Any:
        return gpu.Part(name, ["-c", code], lambda printed, path: json.loads(printed), lambda r: [f"{r}"], **settings)

    stubs = [
        part("breaks", "raise SystemExit('no such kernel')"),
        part("is wrong", "print(2)", accept=lambda result: result == 1),
        part("hangs", "import time; time.sleep(60)", timeout=0.1),
        part("works", "print(1)"),
    ]
    monkeypatch.setattr(gpu, "parts", lambda *sizes: stubs)
    monkeypatch.setattr(gpu, "facts", lambda device, command: {"command": command})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(sys, "argv", ["gpu", "--out", str(tmp_path)])
    assert gpu.main() == 1
    content = json.loads((tmp_path / "gpu.json").read_text())
    assert [entry["ok"] for entry in content["parts"]] == [False, False, False, True]
    assert content["parts_left"] == 0
    text = (tmp_path / "gpu.md").read_text()
    assert "no such kernel" in text
    assert "no answer within 0.1 s" in text
    assert text.count("FAILED") == 3


def test_a_part_that_is_stopped_takes_along_what_it_started(gpu: Any, tmp_path: Path) -> None:
    """Else the processes of the study would keep the GPU busy while the next part is timed."""
    # Not above: `make gpu` collects this file where little is installed.
    import psutil

    note = tmp_path / "child"
    code = (
        "import subprocess, sys, pathlib\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        f"pathlib.Path({str(note)!r}).write_text(str(child.pid))\n"
        "child.wait()"
    )
    part = gpu.Part("hangs", ["-c", code], lambda printed, path: {}, lambda result: [], timeout=3)
    outcome = gpu.run(part)
    assert outcome.error == "no answer within 3 s"
    child = int(note.read_text())
    # Whoever adopts it need not have noticed its end yet.
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_a_run_that_was_out_of_time_goes_on_with_what_is_missing(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A GPU may be lent for minutes only, and what it has shown need not be shown again."""

    def run(torch_version: str, *options: str, wait: float = 0.0) -> tuple[int, list[tuple[str, bool]], int]:
        def part(name: str, code: str) -> Any:
            return gpu.Part(name, ["-c", code], lambda printed, path: {"printed": printed.strip()}, lambda r: [])

        log = f"import pathlib, time; pathlib.Path({str(tmp_path / 'log')!r}).open('a').write"
        stubs = [
            part("first", f"{log}('1')"),
            part("broken", f"{log}('2'); raise SystemExit(1)"),
            part("long", f"{log}('3'); time.sleep({wait})"),
            part("last", f"{log}('4')"),
        ]
        monkeypatch.setattr(gpu, "parts", lambda *sizes: stubs)
        monkeypatch.setattr(gpu, "facts", lambda device, command: {"command": command, "torch": torch_version})
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(sys, "argv", ["gpu", "--out", str(tmp_path), *options])
        code = gpu.main()
        content = json.loads((tmp_path / "gpu.json").read_text())
        return code, [(entry["name"], entry["ok"]) for entry in content["parts"]], content["parts_left"]

    assert run("1", "--minutes", "0.1", wait=60) == (1, [("first", True), ("broken", False)], 2)
    assert "--continue goes on" in capsys.readouterr().out
    everything = [("first", True), ("broken", False), ("long", True), ("last", True)]
    assert run("1", "--continue") == (1, everything, 0)
    # What failed is tried again, what is there is not.
    assert (tmp_path / "log").read_text() == "123" + "234"
    # Figures of two versions do not mix in one table.
    assert run("2", "--continue") == (1, everything, 0)
    assert (tmp_path / "log").read_text() == "123" + "234" + "1234"
    assert run("2") == (1, everything, 0)
    assert (tmp_path / "log").read_text() == "123" + "234" + "1234" + "1234"


def test_the_difference_by_tensorfloat_is_measured_with_it(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a backbone turns it off, and the report would say that it changes nothing."""
    from benchmarks import models

    class Spy(torch.nn.Module):
        sample_rate = 16_000
        layers = (Layer("halves", 1),)

        def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
            # As if the rounding moved every value by one half.
            scale = 1.5 if torch.backends.cudnn.allow_tf32 else 1.0
            return [scale * waveforms[..., None]], lengths

    monkeypatch.setitem(models.MODELS, "spy", Spy)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    found = models.difference("spy", gpu="cpu")
    assert found["pooled"] == found["frames"] == 0
    assert found["frames_tf32"] > 0.4


def test_tests_that_were_skipped_do_not_pass_for_tests_that_ran(gpu: Any, tmp_path: Path) -> None:
    file = tmp_path / "test_example.py"
    file.write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "def test_bad(): assert 1 == 2\n"
        "@pytest.mark.skip\ndef test_skipped(): pass\n"
    )
    report = tmp_path / "report.xml"
    run("-m", "pytest", "-p", "no:cacheprovider", "-q", str(file), "--junitxml", str(report))
    found = gpu.read_junit(report)
    assert (found["passed"], found["failed"], found["skipped"]) == (1, 1, 1)
    assert found["failures"] == {"test_bad": "assert 1 == 2"}
    assert not gpu.parts(1, 1, 1)[0].accept(found)


def test_the_arguments_of_every_kind_of_part_are_understood(gpu: Any, benchmark: Any) -> None:
    parts = {part.arguments[1]: part.arguments for part in gpu.parts(8, 8, 1)}
    assert set(parts) == {"pytest", "benchmarks.models", "benchmarks.sweep"}
    for module in ("benchmarks.models", "benchmarks.sweep"):
        # Help, asked for last, comes after all before it was parsed.
        code, printed, errors = benchmark(*parts[module][1:], "--help")
        assert code == 0 and f"python3 -m {module}" in printed, errors


@pytest.mark.slow
def test_tests_of_kernels_that_few_machines_have_run_only_where_they_are(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without mamba_ssm its tests would be skipped, which fails the run; with it, they must not be lost."""

    @functools.cache
    def collect(*command: str) -> str:
        report = str(tmp_path / "report.xml")
        return run(*(one.replace("{result}", report) for one in command), "--collect-only").stdout

    def tests() -> list[str]:
        commands = [part.arguments for part in gpu.parts(1, 1, 1) if "pytest" in part.arguments]
        collected = [collect(*command) for command in commands]
        return [name for name in ("test_gpu.py", "test_mamba_ssm.py") for text in collected if name in text]

    monkeypatch.setattr(gpu, "find_spec", lambda name: None)
    assert tests() == ["test_gpu.py"]
    monkeypatch.setattr(gpu, "find_spec", lambda name: object())
    assert tests() == ["test_gpu.py", "test_mamba_ssm.py"]
