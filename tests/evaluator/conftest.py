"""The command line, and one small task or checkpoint of each kind."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from builders import save_checkpoint, tone, write_clips_task, write_submission


@pytest.fixture
def clips_task(tmp_path: Path) -> Path:
    """A classification task: 4 tones in noise of unequal length and rate, 60 clips. Returns the task file."""
    return write_clips_task(tmp_path / "clips")


@pytest.fixture
def windows_task(tmp_path: Path) -> Path:
    """A detection task: two overlapping kinds of tone in 12-s recordings. Returns the task file."""
    directory = tmp_path / "windows"
    (directory / "audio").mkdir(parents=True)
    rate = 16_000
    for split, count in (("train", 4), ("valid", 2), ("test", 2)):
        rows = []
        for number in range(count):
            generator = np.random.default_rng([number, count])
            sound = 0.2 * generator.standard_normal(12 * rate)
            annotations = []
            for label, frequency in (("low", 500), ("high", 2500)):
                for _ in range(2):
                    start = float(generator.uniform(0, 9))
                    call = tone(frequency, 2.0, rate, number, noise=0.0)
                    sound[int(start * rate) : int(start * rate) + len(call)] += call
                    annotations.append({"st": start, "ed": start + 2.0, "label": label})
            path = f"audio/{split}_{number}.wav"
            soundfile.write(directory / path, sound * 0.3, rate)
            rows.append(json.dumps({"path": path, "length": 12.0, "annotations": annotations}))
        (directory / f"{split}.jsonl").write_text("\n".join(rows) + "\n")
    task = directory / "scape.toml"
    task.write_text(
        'name = "scape"\nkind = "detection"\nmetric = "map"\nwindow_width = 2\nwindow_shift = 1\n'
        'train = "train.jsonl"\nvalid = "valid.jsonl"\ntest = "test.jsonl"\n'
    )
    return task


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    return {kind: save_checkpoint(root / kind, kind) for kind in ("group", "layer")}


@pytest.fixture
def statistics(tmp_path: Path) -> Path:
    """A submission file for the floor at 16 kHz."""
    return write_submission(tmp_path / "statistics.toml", 'loader = "statistics"\nsample_rate = 16000\nbands = 24')
