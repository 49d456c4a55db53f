"""The second paper's figure: memory of BioMamba and AVES over clip length, with every attention and kernel there is.

Both have twelve blocks of 768 on the same convolutions, with random weights: memory does not depend on their values.
On a GPU it needs no more than torch, torchaudio and transformers.
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

# As Earth Species publishes it for AVES; submissions/random-aves.toml has the same.
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

    ``unavailable`` is why it cannot be measured here, or "".
    """

    model: Literal["AVES", "BioMamba"]
    kernel: str
    precision: str
    question: dict[str, Any] = field(default_factory=dict, compare=False)
    unavailable: str = ""

    @property
    def label(self) -> str:
        """For example "AVES, flash, bf16"."""
        return f"{self.model}, {self.kernel}, {self.precision}"


@dataclass(frozen=True)
class Line:
    """A way and its points, the shortest clip first."""

    way: Way
    points: tuple[Point, ...]

    def at(self, seconds: float) -> Point | None:
        """The point of a clip length, None where there is none."""
        return next((point for point in self.points if point["seconds"] == seconds), None)


@dataclass(frozen=True)
class Measurements:
    """What was measured: on which device, with which versions, and the lines.

    ``kind`` is "cuda" or "cpu"; the bytes of the points are of VRAM or of host memory accordingly.
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
        """All lengths in seconds, in order."""
        return sorted({point["seconds"] for line in self.lines for point in line.points})


def ways(kind: str, precisions: Sequence[str], layers: Layers) -> Iterator[Way]:
    """Every line that there could be, also those that this machine has no kernels for."""
    for precision in precisions:
        for attention in ("eager", "memory-efficient", "flash"):
            subject = {"loader": "torchaudio", "arguments": {"config": AVES, "weights": "random"}, "layers": layers}
            why = ""
            if attention == "flash" and kind == "cuda" and precision == "fp32":
                why = "flash attention takes half precision alone"
            elif attention == "memory-efficient" and kind == "cpu":
                why = "torch has this kernel on GPUs alone"
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
    """Measure every line at every length, each point in a fresh process; ``path`` has what is done after every point.

    Args:
        path: the study's JSON file; points that it has already are not measured again.
        kind: "cuda" or "cpu".
        lengths: seconds of the clips.
        precisions: "fp32" and "bf16".
        layers: "last" keeps the last layer's output, as in use; "all" keeps every layer's, as the suite does.
        timeout: seconds for each point.
        again: measure also what is there.
        report: called with the progress.

    Raises:
        UserError: ``path`` holds a study of another device or with other versions, or the device cannot be asked.
    """
    try:
        where = ask({"where": kind}, _WHERE_SECONDS)
    except NoAnswerError as error:
        raise UserError(f"The {kind} device does not answer ({error}): `beans doctor` looks closer.") from error
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

        def tell(seconds: float, way: Way = way, before: int = done) -> None:
            report(f"{way.label}: {seconds:g} s", before + ordered.index(seconds), total)

        for point in walk(question, ordered, known=dict(points), timeout=timeout, again=again, report=tell):
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
    """Refuse to mix two studies in one file.

    Raises:
        UserError: with what differs.
    """
    for what in ("kind", "device", "layers", "versions"):
        there, here = getattr(known, what), getattr(wanted, what)
        if there != here:
            raise UserError(
                f"{path} holds a study with another {what} ({there} and not {here}): "
                "choose another --out, or measure all of it again with --again."
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
    """Read a study.

    Raises:
        UserError: the file is no study.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        lines = []
        for line in content.pop("lines"):
            way = Way(line["model"], line["kernel"], line["precision"], unavailable=line["unavailable"])
            lines.append(Line(way, tuple(line["points"])))
        return Measurements(**content, lines=tuple(lines))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no study of memory ({type(error).__name__}: {error}): move it away.") from error


def _why_no_mamba_ssm(kind: str) -> str:
    if kind != "cuda":
        return "mamba_ssm's kernels run on GPUs alone"
    missing = [name for name in ("mamba_ssm", "causal_conv1d") if find_spec(name) is None]
    return f"{' and '.join(missing)} not installed" if missing else ""
