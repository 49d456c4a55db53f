"""``beans study``: questions of the papers that one command answers again."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from evaluator.cli.choices import Device, Timeout
from evaluator.cli.console import print_json, progress, split_numbers
from evaluator.cli.profile import choose_precisions
from tasks.errors import UserError
from tasks.home import Home

app = typer.Typer(help="Studies: vram.", no_args_is_help=True, epilog="Example: beans study vram")

_EXAMPLE = "Example: beans study vram --device cpu --seconds 1,5"


@app.callback()
def studies() -> None:
    """Answer a question of the papers again."""


@app.command(epilog=_EXAMPLE)
def vram(
    seconds: Annotated[
        str, typer.Option(help="Lengths of the clips in seconds, separated by commas.")
    ] = "5,10,30,60,120,300,600,1000",
    precision: Annotated[str, typer.Option(help="fp32, bf16, or both separated by a comma.")] = "fp32,bf16",
    layers: Annotated[
        Literal["last", "all"],
        typer.Option(help="last: keep the last layer's output, as in use; all: every layer's, as the suite does."),
    ] = "last",
    device: Device = "cuda",
    out: Annotated[
        Path | None, typer.Option(help="Directory of the figure and tables. [default: BEANS_HOME/studies]")
    ] = None,
    timeout: Timeout = 600.0,
    again: Annotated[bool, typer.Option("--again", help="Measure also what was measured before.")] = False,
    draw: Annotated[bool, typer.Option("--draw", help="Measure nothing; draw what --out holds.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Compare the memory of BioMamba and AVES over the length of a clip: a figure, a table, and whether 40 % holds.

    Both have twelve blocks of 768 and random weights, since memory does not depend on what was learned. AVES runs with
    eager, memory-efficient and flash attention, BioMamba with every kernel that is installed. On a CPU it is the host's
    memory. Interrupted, the same command goes on where it stopped.
    """
    from evaluator.efficiency import study
    from evaluator.efficiency.report import verdict, write_report

    lengths = split_numbers("--seconds", seconds, "1,5,10")
    precisions = choose_precisions(precision)
    if not lengths:
        raise UserError("Give at least one length with --seconds.")
    # What was measured on a GPU can be drawn without one.
    kind = device if draw and device != "auto" else _kind(device)
    folder = out or Home.from_environment().root / "studies"
    # Host memory never lies in a file that says VRAM.
    stem = ("vram" if kind == "cuda" else "host-memory") + ("" if layers == "last" else "-all-layers")
    path = folder / f"{stem}.json"
    if draw:
        if not path.exists():
            raise UserError(f"{path} does not exist: run the command without --draw first.")
        found = study.read(path)
    else:
        with progress() as report:
            found = study.run(
                path,
                kind=kind,
                lengths=lengths,
                precisions=precisions,
                layers=layers,
                timeout=timeout,
                again=again,
                report=report,
            )
    files = [str(file) for file in (path, *write_report(found, path))]
    if as_json:
        print_json({"verdict": verdict(found), "files": files})
        return
    print("\n".join(verdict(found)))
    print(f"Written: {', '.join(files)}")


def _kind(device: str) -> str:
    import torch

    from evaluator.environment import pick_device

    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "beans study vram needs a CUDA device, and torch sees none on this machine: "
            "`beans study vram --device cpu --seconds 1,5` measures the host's memory instead, and says so."
        )
    return pick_device(device).type
