"""Small tasks of both kinds, written as a user writes them. No audio is there."""

import json
from pathlib import Path
from typing import Any

from tasks.task import SPLITS, Task

CLIPS = [("a", "cat", "train"), ("b", "dog", "train"), ("c", "cat", "valid"), ("d", "dog", "test")]
GOOD_ROWS = ["path,label,split", "a.wav,cat,train", "b.wav,dog,train", "c.wav,cat,valid", "d.wav,dog,test"]


def clips_task(root: Path, text: str | bytes, **keys: Any) -> Task:
    (root / "clips.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return Task(name="own", kind="classification", metric="accuracy", clips=Path("clips.csv"), root=root, **keys)


def recording(path: str, *annotations: tuple[float, float, Any], length: Any = 10) -> str:
    spans = [{"st": st_, "ed": ed, "label": label} for st_, ed, label in annotations]
    return json.dumps({"path": path, "length": length, "annotations": spans})


GOOD_LINES = {
    "train": recording("a.wav", (1, 3, "cat"), (2, 4, "dog")),
    "valid": recording("b.wav", (1, 3, "cat")),
    "test": recording("c.wav", (1, 3, "cat")),
}


def scapes_task(root: Path, width: float = 2.0, shift: float = 1.0, labels: Any = None, **lines: str | bytes) -> Task:
    for split, default in GOOD_LINES.items():
        text = lines.get(split, default)
        (root / f"{split}.jsonl").write_bytes(text if isinstance(text, bytes) else text.encode())
    files = {split: Path(f"{split}.jsonl") for split in SPLITS}
    keys = {"window_width": width, "window_shift": shift, "labels": labels, "root": root}
    return Task(name="own", kind="detection", metric="map", **files, **keys)
