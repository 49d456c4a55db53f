"""``beans profile``: measures memory and time of a submission's model over the length of a clip."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from evaluator.cli.choices import Device, Precision, Timeout, read_submission
from evaluator.cli.console import print_json, print_table, progress, split_list, split_numbers, warn
from tasks.support.errors import UserError
from tasks.support.home import Home

if TYPE_CHECKING:
    from leaderboard.records.profile import Kind, Profile

EXAMPLE = "Example: beans profile submissions/random-hubert-small.toml --seconds 1,5,10 --precision fp32,bf16"
LENGTHS = "1,5,10,30,60,120,300,600,1000"
TIMEOUT = 900.0
_MEMORY = {"cuda": "peak VRAM", "cpu": "peak host memory"}


def profile(
    submission: Annotated[Path, typer.Argument(help="A submission file (TOML).", show_default=False)],
    seconds: Annotated[str, typer.Option(help="Lengths of the clips in seconds, separated by commas.")] = LENGTHS,
    batch: Annotated[int, typer.Option(min=1, help="Clips per pass. The board shows 1.")] = 1,
    precision: Annotated[str, typer.Option(help="fp32, bf16, or both separated by a comma.")] = "fp32",
    device: Device = "auto",
    timeout: Timeout = TIMEOUT,
    again: Annotated[bool, typer.Option("--again", help="Measure all points again.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Measure memory, time and multiply-adds of a forward pass over the length of a clip, each in a fresh process.

    The default is nine lengths: minutes for a small model, and at most nine times --timeout per precision (2 h 15 min).
    `--seconds 1,5,10` is quick, and a later call can add the other lengths.

    On a CPU the memory is the host's. A clip that does not fit is a result, and longer clips are not tried. After an
    interruption the same command continues where it stopped. Profiles are in BEANS_HOME/profiles and on the
    leaderboard's page Efficiency.
    """
    from evaluator.efficiency.profiling import profile as measure
    from evaluator.results.environment import pick_device

    lengths = split_numbers("--seconds", seconds, "1,5,10")
    precisions = choose_precisions(precision)
    kind: Kind = "cuda" if pick_device(device).type == "cuda" else "cpu"
    entry = read_submission(submission)
    home = Home.from_environment()
    profiles: list[Profile] = []
    places = sorted(set(lengths))
    with progress() as report:

        def report_length(at: float) -> None:
            done = len(profiles) * len(places) + places.index(at)
            report(f"{entry.name}: {at:g} s, {precisions[len(profiles)]}", done, len(precisions) * len(places))

        report(f"{entry.name}: loading", 0, 0)
        for one in precisions:
            done = measure(
                entry,
                places,
                home.profiles,
                device=kind,
                precision=one,
                batch=batch,
                timeout=timeout,
                again=again,
                report=report_length,
            )
            profiles.append(done)
    command = f"beans profile {submission} --seconds {seconds} --precision {precision} --batch {batch}"
    for done in profiles:
        _hand_over(done, home, f"{command} --device {kind}")
    if as_json:
        print_json([_described(done) for done in profiles])
    else:
        for done in profiles:
            _print(done)
    if not any(point.outcome != "failed" for done in profiles for point in done.points):
        raise UserError(f"Submission {entry.name} could not be run at any length: {profiles[0].points[0].detail}.")


def choose_precisions(value: str) -> list[str]:
    """Return the precisions of a comma-separated option."""
    precisions = list(dict.fromkeys(split_list(value)))
    known = get_args(Precision)
    if not precisions or set(precisions) - set(known):
        raise UserError(f"--precision {value} is unknown: choose from {', '.join(known)}, separated by commas.")
    return precisions


def _hand_over(done: "Profile", home: Home, again: str) -> None:
    """Send a profile to the board and to MLflow. If one of them is down, a warning is printed."""
    from evaluator.tracking.connection import TrackingError
    from evaluator.tracking.profiles import log_profile
    from leaderboard.database.profiles import publish
    from leaderboard.database.store import Store
    from leaderboard.records.profile import profile_path

    try:
        publish(Store(home.database_url), done)
    except UserError as error:
        warn(f"{error} The profile is kept: run the same command again to put it on the board.")
    try:
        log_profile(profile_path(home.profiles, done), home.tracking_uri, home.artifacts, again=again)
    except TrackingError as error:
        warn(str(error))


def _described(done: "Profile") -> dict[str, Any]:
    """Return the profile for scripts, with values derived from its points."""
    from leaderboard.records.profile import spell

    points = [
        {
            **point.model_dump(mode="json"),
            "activation_bytes": point.activation_bytes,
            "audio_seconds_per_second": done.throughput(point),
            "words": spell(done, point),
        }
        for point in done.points
    ]
    memory = "vram" if done.kind == "cuda" else "host memory"
    return {**done.model_dump(mode="json", exclude={"points", "environment"}), "memory": memory, "points": points}


def _print(done: "Profile") -> None:
    from leaderboard.ranking import formats
    from leaderboard.records.profile import spell

    def size(count: int | None) -> str:
        return "–" if count is None else formats.memory(count)

    rows = []
    for point in done.points:
        if point.latency_seconds is None or point.latency_p90_seconds is None:
            rows.append([f"{point.seconds:g}", spell(done, point), *["–"] * 6, ""])
            continue
        rows.append(
            [
                f"{point.seconds:g}",
                size(point.peak_bytes),
                size(point.activation_bytes),
                size(point.reserved_bytes),
                f"{1000 * point.latency_seconds:.1f}",
                f"{1000 * point.latency_p90_seconds:.1f}",
                f"{done.throughput(point) or 0:.0f}",
                "–" if point.multiply_adds is None else f"{point.multiply_adds / 1e9:.1f}",
                point.attention,
            ]
        )
    weights = next((point.weights_bytes for point in done.points if point.weights_bytes is not None), None)
    columns = [
        "seconds",
        _MEMORY[done.kind],
        "without weights",
        "reserved",
        "median ms",
        "90 % ms",
        "audio s/s",
        "10^9 multiply-adds",
        "attention",
    ]
    title = f"{done.submission} on {done.device}, {done.precision}, batch {done.batch}"
    print_table(title, columns, rows, numeric=columns[2:8])
    counted = sorted({point.counted for point in done.points if point.counted})
    print(f"Parameters: {formats.parameters(done.parameters)}; weights: {size(weights)}.")
    if done.kind == "cpu":
        print("Measured on a CPU: this is the host's memory and not VRAM; the two are never compared.")
    for words in counted:
        print(f"Multiply-adds by {words}.")
