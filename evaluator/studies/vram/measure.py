"""Measures the second paper's figure: memory of BioMamba and AVES over clip length, for every attention and kernel.

Both have twelve blocks of width 768 on the same convolutions, with random weights, because memory does not depend on
the values of weights. On a GPU the study needs only torch, torchaudio and transformers.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from evaluator.efficiency.curve import Point, walk
from evaluator.efficiency.fresh import NoAnswerError, ask
from tasks.support.errors import UserError
from tasks.support.files import write_atomically
from tasks.support.progress import Report, silent

LENGTHS = (5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1000.0)
TIMEOUT = 600.0
Layers = Literal["last", "all"]

# The configuration that Earth Species publishes for AVES; submissions/random-aves.toml has the same.
AVES: dict[str, Any] = {
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": [[512, 10, 5], *[[512, 3, 2]] * 4, *[[512, 2, 2]] * 2],
    "extractor_conv_bias": False,
    "encoder_embed_dim": 768,
    "encoder_projection_dropout": 0.1,
    "encoder_pos_conv_kernel": 128,
    "encoder_pos_conv_groups": 16,
    "encoder_num_layers": 12,
    "encoder_num_heads": 12,
    "encoder_attention_dropout": 0.1,
    "encoder_ff_interm_features": 3072,
    "encoder_ff_interm_dropout": 0.0,
    "encoder_dropout": 0.1,
    "encoder_layer_norm_first": False,
    "encoder_layer_drop": 0.05,
}
# BioMamba's defaults have the same depth and width.
BIOMAMBA: dict[str, Any] = {}
_WHERE_SECONDS = 300.0


@dataclass(frozen=True)
class Way:
    """One line of the figure: a model, its attention or scan, and the precision.

    ``unavailable`` is the reason why it cannot be measured here, or "".
    """

    model: Literal["AVES", "BioMamba"]
    kernel: str
    precision: str
    question: dict[str, Any] = field(default_factory=dict, compare=False)
    unavailable: str = ""

    @property
    def label(self) -> str:
        """Its name in the figure, for example "AVES, flash, bf16"."""
        return f"{self.model}, {self.kernel}, {self.precision}"


@dataclass(frozen=True)
class Line:
    """A `Way` and its measured points, the shortest clip first."""

    way: Way
    points: tuple[Point, ...]

    def at(self, seconds: float) -> Point | None:
        """Return the point of a clip length, or None."""
        return next((point for point in self.points if point["seconds"] == seconds), None)


@dataclass(frozen=True)
class Measurements:
    """The measurements: the device, the versions, and the lines.

    ``kind`` is "cuda" or "cpu". The bytes of the points are of VRAM for "cuda" and of host memory for "cpu".
    """

    kind: str
    device: str
    layers: Layers
    available_bytes: int | None
    versions: dict[str, str]
    date: str
    lines: tuple[Line, ...]

    @property
    def lengths(self) -> list[float]:
        """All lengths in seconds, sorted."""
        return sorted({point["seconds"] for line in self.lines for point in line.points})


def ways(kind: str, precisions: Sequence[str], layers: Layers) -> Iterator[Way]:
    """Yield every possible line, including lines whose kernels are not available on this machine."""
    for precision in precisions:
        for attention in ("eager", "memory-efficient", "flash"):
            subject = {"loader": "torchaudio", "arguments": {"config": AVES, "weights": "random"}, "layers": layers}
            why = ""
            if attention == "flash" and kind == "cuda" and precision == "fp32":
                why = "flash attention needs half precision"
            elif attention == "memory-efficient" and kind == "cpu":
                why = "torch has this kernel only on GPUs"
            yield Way("AVES", attention, precision, {"measure": subject, "attention": attention}, why)
        for kernels in ("transformers", "mamba_ssm"):
            arguments = {"weights": "random", "config": BIOMAMBA, "kernels": kernels}
            why = _why_no_mamba_ssm(kind) if kernels == "mamba_ssm" else ""
            subject = {"loader": "biomamba", "arguments": arguments, "layers": layers}
            yield Way("BioMamba", kernels, precision, {"measure": subject}, why)


def run(
    path: Path,
    *,
    kind: str,
    lengths: Sequence[float] = LENGTHS,
    precisions: Sequence[str] = ("fp32", "bf16"),
    layers: Layers = "last",
    timeout: float = TIMEOUT,
    again: bool = False,
    report: Report = silent,
) -> Measurements:
    """Measure every line at every length, each point in a new process. ``path`` is written after every point.

    Args:
        path: the study's JSON file. Points that it holds are not measured again.
        kind: "cuda" or "cpu".
        lengths: lengths of the clips in seconds.
        precisions: "fp32" and "bf16".
        layers: "last" keeps the last layer's output, as in use; "all" keeps every layer's, as the suite does.
        timeout: seconds for each point.
        again: measure all points again.
        report: receives the progress.

    Raises:
        UserError: ``path`` holds a study of another device or with other versions, or the device does not answer.
    """
    try:
        where = ask({"where": kind}, _WHERE_SECONDS)
    except NoAnswerError as error:
        raise UserError(f"The {kind} device does not answer ({error}): `beans doctor` shows more.") from error
    planned = list(ways(kind, precisions, layers))
    study = Measurements(kind, where["device"], layers, where["available_bytes"], where["versions"], "", ())
    known = read(path) if path.exists() and not again else None
    if known is not None:
        refuse_another(path, known, study)
        study = known
    ordered = sorted(set(lengths))
    done, total = 0, sum(not way.unavailable for way in planned) * len(ordered)
    lines = {way: Line(way, ()) for way in planned} | {line.way: line for line in study.lines}
    for way in (way for way in planned if not way.unavailable):
        points = {point["seconds"]: point for point in lines[way].points}
        question = {**way.question, "device": kind, "precision": way.precision, "count": False}

        def report_point(seconds: float, way: Way = way, before: int = done) -> None:
            report(f"{way.label}: {seconds:g} s", before + ordered.index(seconds), total)

        for point in walk(question, ordered, known=dict(points), timeout=timeout, again=again, report=report_point):
            points[point["seconds"]] = point
            lines[way] = Line(way, tuple(points[seconds] for seconds in sorted(points)))
            study = Measurements(
                kind,
                study.device,
                layers,
                study.available_bytes,
                study.versions,
                datetime.now(UTC).isoformat(timespec="minutes"),
                tuple(lines.values()),
            )
            write(path, study)
        done += len(ordered)
    return study


def refuse_another(path: Path, known: Measurements, wanted: Measurements) -> None:
    """Check that both studies have the same settings, so that one file never mixes two studies.

    Raises:
        UserError: a setting differs.
    """
    for what in ("kind", "device", "layers", "versions"):
        there, here = getattr(known, what), getattr(wanted, what)
        if there != here:
            raise UserError(
                f"{path} holds a study with another {what} ({there} and not {here}): "
                "choose another --out, or measure all points again with --again."
            )


def write(path: Path, study: Measurements) -> None:
    """Write the study as JSON, atomically."""
    lines = [
        {
            "model": line.way.model,
            "kernel": line.way.kernel,
            "precision": line.way.precision,
            "unavailable": line.way.unavailable,
            "points": line.points,
        }
        for line in study.lines
    ]
    content = {
        "kind": study.kind,
        "device": study.device,
        "layers": study.layers,
        "available_bytes": study.available_bytes,
        "versions": study.versions,
        "date": study.date,
        "lines": lines,
    }
    write_atomically(path, json.dumps(content, indent=2) + "\n")


def read(path: Path) -> Measurements:
    """Read a study from its file.

    Raises:
        UserError: the file is not a study.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        lines = []
        for line in content.pop("lines"):
            way = Way(line["model"], line["kernel"], line["precision"], unavailable=line["unavailable"])
            lines.append(Line(way, tuple(line["points"])))
        return Measurements(**content, lines=tuple(lines))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a study of memory ({type(error).__name__}: {error}): move it away.") from error


def _why_no_mamba_ssm(kind: str) -> str:
    if kind != "cuda":
        return "mamba_ssm's kernels run only on GPUs"
    missing = [name for name in ("mamba_ssm", "causal_conv1d") if find_spec(name) is None]
    return f"{' and '.join(missing)} not installed" if missing else ""
