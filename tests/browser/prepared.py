"""A home with data of catalogue tasks: one generated as its users do it, the others small and in the same files."""

import csv
from pathlib import Path

import numpy as np
import soundfile

from tasks.prepare import prepare
from tasks.prepare.source import BEANS_VERSION
from tasks.prepare.state import MARK
from tasks.support.home import Home
from tasks.task import load_task

BAT_RATE = 250_000


def prepare_tasks(home: Home) -> None:
    """Generate ``mini-soundscape``; lay down small copies of ``humbugdb`` (CC BY), ``bats`` and ``cbi`` (neither)."""
    prepare("mini-soundscape", home.data)
    humbug = small_copy("humbugdb", home.data, {"an arabiensis": 5, "others": 3, "ma uniformis": 1})
    sounds = humbug / "audio"
    soundfile.write(sounds / "an arabiensis-train-0.flac", _tone(440, 3.0, 22_050), 22_050)
    # No mosquito needs it; the tasks that do may not be played.
    soundfile.write(sounds / "others-train-0.flac", _tone(40_000, 2.0, BAT_RATE), BAT_RATE)
    (sounds / "ma uniformis-train-0.flac").write_text("no sound")
    small_copy("bats", home.data, {"111": 2, "210": 1})
    small_copy("cbi", home.data, dict.fromkeys(load_task("cbi", data=home.data).labels or (), 2))


def small_copy(name: str, data: Path, train: dict[str, int]) -> Path:
    """A prepared task with so many train clips of each class and one of each in valid and test; without sounds."""
    task = load_task(name, data=data)
    assert task.clips is not None
    (task.root / "audio").mkdir(parents=True)
    with (task.root / task.clips).open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "path", "label", "split", "recording", "low"])
        for label, count in train.items():
            for split, number in (("train", count), ("valid", 1), ("test", 1)):
                for at in range(number):
                    key = f"{label}-{split}-{at}"
                    table.writerow([key, f"audio/{key}.flac", label, split, key, 0])
    mark = f'{{"version": "{BEANS_VERSION}", "copy": "origin"}}'
    (task.root / MARK).write_text(mark, encoding="utf-8")
    return task.root


def _tone(frequency: float, seconds: float, rate: int) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)
