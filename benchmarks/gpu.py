"""All tests and measurements that need a GPU, in one command: ``make gpu``.

    python3 -m benchmarks.gpu [--out DIR] [--minutes N] [--continue]

It needs the machine's python3 and torch, and no installation. Every part runs in its own process, so that parts do not
share memory and a failed part stops no other. It writes DIR/gpu.json and DIR/gpu.md after every part. If a GPU is
available for minutes only, --minutes stops in time, and --continue runs the missing parts.
"""

import argparse
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch

from benchmarks.models import MODELS
from benchmarks.report import Facts, facts, table

_ROOT = Path(__file__).resolve().parent.parent
_OUT = Path("docs/measurements")
# Number of output lines that the report keeps of a failed part.
_TAIL = 15
_MAMBA_SSM = "tests/gpu/test_mamba_ssm.py"
# Largest allowed difference between features on the GPU and on the CPU, relative to their scale.
_EQUAL = 1e-3

# Seconds. A profile has up to ten processes, the study up to eighty.
_PROFILE_TIMEOUT, _STUDY_TIMEOUT = 1800.0, 7200.0

# Two runs with equal values of these facts may share one table. The memory study has the same rule.
_COMPARABLE = ("device", "cuda", "torch", "torchaudio", "transformers")

Result = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """One measurement.

    Attributes:
        name: name in the report.
        arguments: arguments of python3; "{result}" is replaced by the path of a file for the result.
        read: makes the result from the printed text and the path of that file.
        cells: describes the result in short phrases for its cell of the table.
        accept: whether the result is correct. It is not called if the process failed.
        timeout: in seconds.
    """

    name: str
    arguments: Sequence[str]
    read: Callable[[str, Path], Result]
    cells: Callable[[Result], list[str]]
    accept: Callable[[Result], bool] = lambda result: True
    timeout: float = 900.0


@dataclass(frozen=True)
class Outcome:
    """The outcome of a part. If it is not ok, ``error`` gives the reason."""

    name: str
    ok: bool
    seconds: float
    cells: list[str]
    result: Result | None
    error: str | None


def parts(train: int, valid: int, repetitions: int, out: Path = _OUT) -> list[Part]:
    """All parts, the longest last."""
    # Few machines have the kernels of mamba_ssm. Missing kernels are no failure.
    kernels = find_spec("mamba_ssm") is not None and find_spec("causal_conv1d") is not None
    found = [_tests("tests", ["tests/gpu", "--ignore", _MAMBA_SSM])]
    found += [_tests("tests, mamba_ssm", [_MAMBA_SSM])] if kernels else []
    for model in MODELS:
        arguments = ["-m", "benchmarks.models", "cost", model]
        found.append(Part(f"one 10-s clip, {model}", arguments, _read_line, _cost_cells))
    for model in MODELS:
        arguments = ["-m", "benchmarks.models", "profile", model]
        found.append(
            Part(
                f"over clip length, {model}", arguments, _read_line, _profile_cells, _no_point_failed, _PROFILE_TIMEOUT
            )
        )
    for model in MODELS:
        arguments = ["-m", "benchmarks.models", "difference", model]
        found.append(
            Part(
                f"CPU against GPU, {model}",
                arguments,
                _read_line,
                _difference_cells,
                lambda result: bool(result["pooled"] <= _EQUAL),
            )
        )
    for track in ("ta", "twa"):
        arguments = ["-m", "benchmarks.sweep", "--device", "cuda", "--track", track, "--json", "{result}"]
        arguments += ["--train", str(train), "--valid", str(valid), "--forward-clips", str(train + valid)]
        arguments += ["--repetitions", str(repetitions)]
        found.append(Part(f"sweep, {track}", arguments, lambda printed, path: _read_sweep(path), _sweep_cells))
    arguments = ["-m", "benchmarks.models", "study", "--out", str(out.resolve())]
    found.append(
        Part(
            "VRAM of BioMamba and AVES", arguments, _read_line, _study_cells, lambda r: not r["failed"], _STUDY_TIMEOUT
        )
    )
    return found


def _tests(name: str, where: Sequence[str]) -> Part:
    return Part(
        name,
        ["-m", "pytest", *where, "-m", "gpu", "-p", "no:cacheprovider", "-q", "--junitxml", "{result}"],
        lambda printed, path: read_junit(path),
        lambda result: [f"{result['passed']} passed, {result['failed']} failed, {result['skipped']} skipped"],
        # No other machine runs these tests, so a skipped test counts as a failure.
        lambda result: result["failed"] == 0 and result["skipped"] == 0 and result["passed"] > 0,
    )


def run(part: Part, left: float = math.inf) -> Outcome | None:
    """Run one part in its own process. Return its outcome, also a failure; None if the ``left`` seconds ran out."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "result"
        command = [sys.executable, *(argument.replace("{result}", str(path)) for argument in part.arguments)]
        result, cells, error = None, [], None
        try:
            done = _finish(command, min(part.timeout, left))
            if done.returncode != 0:
                error = f"exit code {done.returncode}: " + _tail(done.stdout + done.stderr)
            # Read after a failure too: failed tests have names, and a sweep that disagrees has times.
            result = part.read(done.stdout, path)
            cells = part.cells(result)
            if error is None and not part.accept(result):
                error = "the result is not as it should be"
        except subprocess.TimeoutExpired:
            if left < part.timeout:
                return None
            error = f"no answer within {part.timeout:g} s"
        except (OSError, ValueError, LookupError, ElementTree.ParseError) as unreadable:
            error = error or f"no result: {unreadable}"
    return Outcome(part.name, error is None, time.perf_counter() - start, cells, result, error)


def _finish(command: Sequence[str], timeout: float) -> subprocess.CompletedProcess[str]:
    # The part has its own process group, so that killing it also kills its children, which would keep the GPU busy.
    with subprocess.Popen(
        command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    ) as process:
        try:
            printed, errors = process.communicate(timeout=timeout)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, printed, errors)


def finished(out: Path, machine: Facts) -> dict[str, Outcome]:
    """The ok parts of an earlier run in ``out``, by name; none if that run had another device or other versions."""
    try:
        content = json.loads((out / "gpu.json").read_text())
        outcomes = [Outcome(**entry) for entry in content["parts"]]
        before = content["machine"]
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    same = all(before.get(name) == machine.get(name) for name in _COMPARABLE)
    return {outcome.name: outcome for outcome in outcomes if outcome.ok} if same else {}


def read_junit(path: Path) -> Result:
    """Counts of a pytest run, and the first line of each failed test's message."""
    cases = list(ElementTree.parse(path).iter("testcase"))
    failed = {}
    for case in cases:
        for trouble in (*case.findall("failure"), *case.findall("error")):
            failed[case.get("name", "?")] = (trouble.get("message") or "").split("\n")[0]
    skipped = sum(case.find("skipped") is not None for case in cases)
    return {
        "passed": len(cases) - len(failed) - skipped,
        "failed": len(failed),
        "skipped": skipped,
        "failures": failed,
    }


def write(out: Path, machine: Facts, outcomes: Sequence[Outcome], left: int) -> None:
    """Write ``gpu.json`` and ``gpu.md`` with the parts that are done."""
    out.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine, "parts_left": left, "parts": [asdict(outcome) for outcome in outcomes]}
    (out / "gpu.json").write_text(json.dumps(content, indent=2) + "\n")
    rows = [
        [outcome.name, "ok" if outcome.ok else "FAILED", "; ".join(outcome.cells) or "-", f"{outcome.seconds:.0f}"]
        for outcome in outcomes
    ]
    lines = ["# Measured on a GPU", "", table(["part", "", "result", "took (s)"], rows), ""]
    lines += [f"- {name}: {value}" for name, value in machine.items() if value is not None]
    if left:
        lines += ["", f"Interrupted or still running: {left} parts are missing."]
    for outcome in outcomes:
        if outcome.error is not None:
            lines += ["", f"## {outcome.name} failed", "", "```", outcome.error, "```"]
    (out / "gpu.md").write_text("\n".join(lines) + "\n")


def _read_line(printed: str, path: Path) -> Result:
    lines = printed.strip().splitlines()
    if not lines:
        raise ValueError("nothing was printed")
    result: Result = json.loads(lines[-1])
    return result


def _read_sweep(path: Path) -> Result:
    content: Result = json.loads(path.read_text())
    return {"setup": content["setup"], **content["tracks"][0]}


def _cost_cells(result: Result) -> list[str]:
    return [
        f"peak {result['vram_bytes'] / 2**20:.0f} MiB",
        f"of which weights {result['weights_bytes'] / 2**20:.0f} MiB",
        f"{1000 * result['seconds']:.1f} ms",
    ]


def _profile_cells(result: Result) -> list[str]:
    return [
        f"{point['seconds']:g} s: {point['peak_bytes'] / 2**20:.0f} MiB, {1000 * point['latency_seconds']:.1f} ms"
        if point["outcome"] == "measured"
        else f"{point['seconds']:g} s: {point['outcome']}"
        for point in result["points"]
    ]


def _no_point_failed(result: Result) -> bool:
    return all(point["outcome"] != "failed" for point in result["points"])


def _study_cells(result: Result) -> list[str]:
    return [result["verdict"][0], f"in {', '.join(result['files'])}", *result["failed"]]


def _difference_cells(result: Result) -> list[str]:
    return [
        f"pooled {result['pooled']:.1e} of their scale (at most {_EQUAL:g})",
        f"frames {result['frames']:.1e}",
        f"frames with TF32 convolutions {result['frames_tf32']:.1e}",
    ]


def _sweep_cells(result: Result) -> list[str]:
    return [
        f"batched / one by one {result['batched_over_one_by_one']:.4f}",
        f"batched / forward {result['batched_over_forward']:.4f}",
        f"scores of probes trained together and alone differ by at most {result['steady_difference']:.4f}",
    ]


def _tail(text: str) -> str:
    # The file is committed, so it must not contain paths of the machine.
    lines = text.replace(str(_ROOT), ".").replace(sys.prefix, "PREFIX").strip().splitlines()
    return "\n".join(lines[-_TAIL:]) or "no output"


def main() -> int:
    """Run all parts. Return 1 if a part failed or is missing, and 2 without a GPU."""
    parser = argparse.ArgumentParser(prog="python3 -m benchmarks.gpu", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=_OUT, metavar="DIR", help=f"where to write ({_OUT})")
    parser.add_argument("--train", type=int, default=512, metavar="N", help="train clips of the sweep (512)")
    parser.add_argument("--valid", type=int, default=128, metavar="N", help="validation clips of the sweep (128)")
    parser.add_argument("--repetitions", type=int, default=3, metavar="N", help="of the sweep (3)")
    parser.add_argument("--minutes", type=float, default=math.inf, metavar="N", help="stop after so long (never)")
    parser.add_argument(
        "--continue", dest="resume", action="store_true", help="keep what is ok in DIR/gpu.json, of such a device"
    )
    arguments = parser.parse_args()
    end = time.monotonic() + 60 * arguments.minutes
    if not torch.cuda.is_available():
        print("make gpu needs a CUDA device, and torch sees none on this machine.", file=sys.stderr)
        return 2
    machine = facts(torch.device("cuda"), shlex.join(["python3", "-m", "benchmarks.gpu", *sys.argv[1:]]))
    todo = parts(arguments.train, arguments.valid, arguments.repetitions, arguments.out)
    done = finished(arguments.out, machine) if arguments.resume else {}
    for part in [part for part in todo if part.name not in done]:
        outcome = run(part, end - time.monotonic())
        if outcome is None:
            print(f"Stopped after {arguments.minutes:g} minutes; --continue goes on with what is missing.")
            return 1
        done[part.name] = outcome
        words = "; ".join(outcome.cells) or outcome.error or ""
        print(f"{part.name}: {'ok' if outcome.ok else 'FAILED'} ({words}, {outcome.seconds:.0f} s)", flush=True)
        outcomes = [done[part.name] for part in todo if part.name in done]
        write(arguments.out, machine, outcomes, len(todo) - len(outcomes))
    print(f"Written: {arguments.out / 'gpu.json'} and {arguments.out / 'gpu.md'}")
    return 0 if all(done[part.name].ok for part in todo) else 1


if __name__ == "__main__":
    # SIGTERM stops the running part too.
    signal.signal(signal.SIGTERM, lambda *stopped: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
