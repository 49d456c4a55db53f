"""The memory of BioMamba and AVES over the length of a clip."""

from pathlib import Path
from typing import Annotated, Literal

from evaluator.studies import Outcome, Study
from evaluator.studies.vram.claim import CLAIM
from tasks.support.errors import UserError
from tasks.support.progress import Report


def run(
    out: Path,
    report: Report,
    *,
    seconds: Annotated[tuple[float, ...], "Lengths of the clips in seconds."] = (5, 10, 30, 60, 120, 300, 600, 1000),
    precision: Annotated[tuple[Literal["fp32", "bf16"], ...], "fp32, bf16, or both."] = ("fp32", "bf16"),
    layers: Annotated[
        Literal["last", "all"], "last: keep the last layer's output, as in use; all: every layer's, as the suite does."
    ] = "last",
    device: Annotated[Literal["auto", "cpu", "cuda"], "cpu measures the host's memory."] = "cuda",
    timeout: Annotated[float, "Seconds for each point, at least 1."] = 600.0,
    again: Annotated[bool, "Measure all points again."] = False,
    draw: Annotated[bool, "Measure nothing; draw what --out holds."] = False,
) -> Outcome:
    """Measure, and write the points, the tables and the figure into ``out``.

    Raises:
        UserError: the requested GPU is missing, there is nothing to draw, or ``out`` has a study of another device.
    """
    from evaluator.studies.vram import measure
    from evaluator.studies.vram.report import verdict, write_report

    if timeout < 1:
        raise UserError(f"--timeout {timeout:g} must be at least 1 second.")
    # Drawing the results of a GPU does not need a GPU.
    kind = device if draw and device != "auto" else _kind(device)
    # Host memory is never written to a file with VRAM in its name.
    stem = ("vram" if kind == "cuda" else "host-memory") + ("" if layers == "last" else "-all-layers")
    path = out / f"{stem}.json"
    if draw:
        if not path.exists():
            raise UserError(f"{path} does not exist: run the command without --draw first.")
        measurements = measure.read(path)
    else:
        measurements = measure.run(
            path,
            kind=kind,
            lengths=seconds,
            precisions=precision,
            layers=layers,
            timeout=timeout,
            again=again,
            report=report,
        )
    return Outcome(verdict(measurements), (path, *write_report(measurements, path)))


def _kind(device: str) -> str:
    import torch

    from evaluator.results.environment import pick_device

    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "beans study vram needs a CUDA device, and torch sees none on this machine: "
            "`beans study vram --device cpu --seconds 1,5` measures the host's memory instead."
        )
    return pick_device(device).type


STUDY = Study(
    help="Compare the memory of BioMamba and AVES over the length of a clip.",
    claim=CLAIM,
    run=run,
    about=(
        "Both have twelve blocks of width 768 and random weights, because memory does not depend on the weights. AVES"
        " runs with eager, memory-efficient and flash attention, BioMamba with every installed kernel. The study writes"
        " a figure and tables. After an interruption the same command continues where it stopped."
    ),
    example="beans study vram --device cpu --seconds 1,5",
)
