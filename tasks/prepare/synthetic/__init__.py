"""Writes the built-in tasks: 16-bit FLAC files at native rates, and manifests."""

import csv
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.prepare.source import Generated, Progress
from tasks.prepare.synthetic import calls, plans
from tasks.task import SPLITS


def _write(file: Path, samples: NDArray[np.float32], rate: int) -> None:
    # A late import: listing the tasks reads the version below and must not import torch.
    from tasks.sound import encode_flac

    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(encode_flac(samples, rate))


def _mini_calls(directory: Path, progress: Progress) -> None:
    clips = plans.plan_calls()
    for done, clip in enumerate(clips):
        progress(done, len(clips))
        _write(directory / clip.path, plans.render_clip(clip), clip.rate)
    with (directory / "clips.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("path", "label", "split", "recording"))
        table.writerows((clip.path, clip.label, clip.split, clip.recording) for clip in clips)
    progress(len(clips), len(clips))


def _mini_soundscape(directory: Path, progress: Progress) -> None:
    scapes = plans.plan_soundscapes()
    for done, scape in enumerate(scapes):
        progress(done, len(scapes))
        _write(directory / scape.path, plans.render_soundscape(scape), plans.SCAPE_RATE)
    for split in SPLITS:
        lines = [
            json.dumps({"path": scape.path, "length": plans.SCAPE_SECONDS, "annotations": scape.annotations})
            for scape in scapes
            if scape.split == split
        ]
        (directory / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    progress(len(scapes), len(scapes))


SOURCES = {
    "mini-calls": Generated(f"synthetic/{calls.VERSION}", 55_000_000, _mini_calls),
    "mini-soundscape": Generated(f"synthetic/{calls.VERSION}", 55_000_000, _mini_soundscape),
}
