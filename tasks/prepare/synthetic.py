"""Writes the built-in tasks: 16-bit FLAC at native rates, and their manifests."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from tasks import calls, synthetic
from tasks.prepare.source import Progress, Source
from tasks.task import SPLITS


def _write_flac(file: Path, samples: NDArray[np.float32], rate: int) -> None:
    # Encoded in memory: a full disk is then Python's OSError, where libsndfile says "System error" or nothing.
    encoded = io.BytesIO()
    soundfile.write(encoded, samples, rate, format="FLAC", subtype="PCM_16")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(encoded.getvalue())


def _mini_calls(directory: Path, progress: Progress) -> None:
    clips = synthetic.plan_calls()
    for done, clip in enumerate(clips):
        progress(done, len(clips))
        _write_flac(directory / clip.path, synthetic.render_clip(clip), clip.rate)
    with (directory / "clips.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("path", "label", "split", "recording"))
        table.writerows((clip.path, clip.label, clip.split, clip.recording) for clip in clips)
    progress(len(clips), len(clips))


def _mini_soundscape(directory: Path, progress: Progress) -> None:
    scapes = synthetic.plan_soundscapes()
    for done, scape in enumerate(scapes):
        progress(done, len(scapes))
        _write_flac(directory / scape.path, synthetic.render_soundscape(scape), synthetic.SCAPE_RATE)
    for split in SPLITS:
        lines = [
            json.dumps({"path": scape.path, "length": synthetic.SCAPE_SECONDS, "annotations": scape.annotations})
            for scape in scapes
            if scape.split == split
        ]
        (directory / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    progress(len(scapes), len(scapes))


SOURCES = {
    "mini-calls": Source(f"synthetic/{calls.VERSION}", 55_000_000, _mini_calls),
    "mini-soundscape": Source(f"synthetic/{calls.VERSION}", 55_000_000, _mini_soundscape),
}
