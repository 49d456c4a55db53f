"""``beans records export-probe``: exports a result as a model."""

from pathlib import Path
from typing import Annotated

import typer

from evaluator.cli.choices import Device, read_submission
from evaluator.cli.console import print_json, progress
from evaluator.tracking.connection import address
from tasks.support.errors import UserError
from tasks.support.home import Home

EXAMPLE = "Example: beans records export-probe 0123456789abcdef --register mini-calls"


def export_probe(
    record: Annotated[str, typer.Argument(help="A record's id or its file.", show_default=False)],
    submission: Annotated[
        Path | None, typer.Option(help="The submission file that was evaluated. [default: submissions/NAME.toml]")
    ] = None,
    task: Annotated[str | None, typer.Option(help="The task file, for a task of your own.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="The start of relative paths in the task file.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="The directory to create. [default: one below BEANS_HOME/probes]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the exported probe.")] = 0,
    register: Annotated[str | None, typer.Option(help="Name in MLflow's model registry.")] = None,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Save a record's backbone and probe as an MLflow model that takes waveforms and returns labels.

    The probe is trained again. It must give the test scores of the record.
    """
    from evaluator.export import retrain
    from evaluator.results.environment import pick_device
    from leaderboard.records.files import read_record
    from leaderboard.records.stored import find_record
    from tasks.prepare import why_not_prepared
    from tasks.task import load_task

    if register is not None:
        retrain.require_registrable(register)
    home = Home.from_environment()
    record_file = find_record(record, home.records)
    result = read_record(record_file)
    if task is None and result.task.group == "own":
        raise UserError(f"{result.task.name} is a task of your own: name its file with --task.")
    measured = load_task(task or result.task.name, data=home.data, data_dir=data_dir)
    reason = why_not_prepared(measured)
    if reason is not None:
        raise UserError(f"Task {measured.name}: {reason}")
    file = submission or Path("submissions") / f"{result.submission.name}.toml"
    if submission is None and not file.is_file():
        raise UserError(f"{file} does not exist: name the file that was evaluated with --submission.")
    with progress() as report:
        directory = retrain.export_probe(
            record_file,
            read_submission(file),
            measured,
            home,
            device=pick_device(device),
            output=output,
            seed=seed,
            report=report,
        )
        uri = retrain.register(directory, register, record_file, home) if register is not None else None
    if as_json:
        tracking = None if uri is None else address(home.tracking_uri)
        print_json({"record": result.id, "path": str(directory), "model_uri": uri, "tracking_uri": tracking})
        return
    print(f"{directory}\nLoad it in Python with:\n\n{_lines(uri, directory, home)}")


def _lines(uri: str | None, directory: Path, home: Home) -> str:
    """Return the Python lines that load the model from any directory."""
    lines = ["import mlflow"]
    # An address with a password is not printed. MLflow reads it from the environment.
    if uri is not None and home.tracking_uri == address(home.tracking_uri):
        lines.append(f"mlflow.set_tracking_uri({home.tracking_uri!r})")
    return "\n".join([*lines, f"model = mlflow.pyfunc.load_model({uri or str(directory.resolve())!r})"])
