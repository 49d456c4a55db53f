"""What is odd about the sounds of a task is counted in the record, said by `beans submit`, and marked on the board."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from builders import Run, tone
from safetensors.torch import load_file

from evaluator.features import shards
from leaderboard.ranking import formats
from leaderboard.ranking.boards import Cell
from leaderboard.ranking.columns import SCORE
from leaderboard.records.files import read_record
from leaderboard.records.flags import FLAGS
from leaderboard.records.record import DataWarning
from leaderboard.records.result import Result

RATE = 16_000
QUICK = ("--trials", 1, "--seeds", 1, "--device", "cpu")


def note(number: int, seconds: float = 0.5) -> np.ndarray:
    return 0.3 * tone(300 if number % 2 else 3_000, seconds, RATE, number)


@pytest.fixture
def odd_task(tmp_path: Path) -> Path:
    """One clip of each oddity; every other clip is fine."""
    rows = ["id,path,label,split"]

    def add(name: str, samples: np.ndarray | None, split: str, number: int, path: str = "") -> None:
        if samples is not None:
            soundfile.write(tmp_path / f"{name}.wav", samples, RATE)
        rows.append(f"{name},{path or f'{name}.wav'},{'ab'[number % 2]},{split}")

    for number in range(12):
        split = ("train", "train", "train", "train", "valid", "test")[number // 2]
        add(f"c{number}", note(number), split, number)
    add("quiet", np.zeros(RATE // 2), "test", 0)
    add("opposite", np.stack([note(20), -note(20)], 1), "train", 0)
    add("loud", np.clip(20 * note(21), -1, 1), "train", 1)
    add("long", note(22, 2.0), "valid", 0)
    # The same sound by another name: a link, an absolute path, and a copy in another format.
    (tmp_path / "link.wav").symlink_to("c0.wav")
    add("linked", None, "test", 0, "link.wav")
    add("absolute", None, "valid", 1, str(tmp_path / "c1.wav"))
    soundfile.write(tmp_path / "copy.flac", soundfile.read(tmp_path / "c2.wav", dtype="int16")[0], RATE)
    add("copied", None, "test", 0, "copy.flac")
    # Twice in one split is nobody's advantage.
    add("twice", None, "train", 1, str(tmp_path / "c3.wav"))
    (tmp_path / "clips.csv").write_text("\n".join(rows) + "\n")
    task = tmp_path / "odd.toml"
    task.write_text('name = "odd"\nkind = "classification"\nclips = "clips.csv"\nmax_duration = 1.0\n')
    return task


EXPECTED: dict[str, tuple[int, int, int, str]] = {
    "cancelling": (1, 0, 0, "opposite"),
    "clipped": (1, 0, 0, "loud"),
    "cropped": (0, 1, 0, "long"),
    "shared": (3, 1, 2, "c0 (train) = linked (test)"),
    "silent": (0, 0, 1, "quiet"),
}


def submitted(beans: Run, *arguments: object) -> tuple[dict[str, Any], str]:
    code, out, err = beans("submit", *arguments, *QUICK, "--json")
    assert code == 0, err
    (row,) = (json.loads(line) for line in out.splitlines() if line.startswith("{"))
    return row, " ".join(err.split())


def counts(warnings: list[DataWarning] | None) -> dict[str, tuple[int, int, int, str]]:
    assert warnings is not None
    return {one.kind: (one.train, one.valid, one.test, one.example) for one in warnings}


def test_odd_sounds_are_counted_said_and_marked(
    beans: Run, statistics: Path, odd_task: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a word, a leak between train and test looks like a good encoder."""
    monkeypatch.setattr("evaluator.cli.console._LOG_WIDTH", 1_000)
    for reused in (False, True):
        row, err = submitted(beans, statistics, "--tasks", odd_task)
        assert row["reused"] is reused
        assert "Clips that are silent: 1 of 20 (test 1); for example quiet." in err
        assert "another split, so that the result may be too good: 6 of 20 (train 3, valid 1, test 2)" in err
    record = read_record(Path(row["record"]))
    assert counts(record.data_warnings) == EXPECTED
    assert counts([DataWarning(**one) for one in row["data_warnings"]]) == EXPECTED
    assert {f"{kind}-sounds" for kind in EXPECTED} <= set(record.flags) <= FLAGS.keys()

    code, out, err = beans("records", "verify", row["record"])
    assert code == 0, out + err

    # One mark for all of them, with their sentences.
    cell = Cell(Result.of(record, stored={"flags": "; ".join(record.flags)}))
    (legend,) = (line for line in formats.flag_legends([cell]) if line.startswith("‖"))
    assert SCORE.shown(cell).mark.count("‖") == 1
    for kind in EXPECTED:
        assert FLAGS[f"{kind}-sounds"] in SCORE.shown(cell).note
        assert FLAGS[f"{kind}-sounds"] in legend

    # Features of an older version do not state the faults: the audio is decoded again, the backbone does not run.
    stored = sorted((own_home / "features").glob("*/*.pooled.safetensors"))
    for path in stored:
        shards._write(path, {name: values for name, values in load_file(path).items() if name != shards.FAULTS})
    Path(row["record"]).unlink()
    before = [load_file(path)["pooled.0"] for path in stored]
    row, _ = submitted(beans, statistics, "--tasks", odd_task)
    assert counts(read_record(Path(row["record"])).data_warnings) == EXPECTED
    assert all(torch.equal(old, load_file(path)["pooled.0"]) for old, path in zip(before, stored, strict=True))
    assert all(shards.FAULTS in load_file(path) for path in stored)


def test_windows_of_one_file_are_not_the_same_sound(beans: Run, statistics: Path, tmp_path: Path) -> None:
    """One recording cut into three parts is a legal task."""
    soundfile.write(tmp_path / "day.wav", np.concatenate([note(number, 2.0) for number in range(9)]), RATE)
    for place, split in enumerate(("train", "valid", "test")):
        annotations = [{"st": 0.0, "ed": 2.0, "label": "a"}, {"st": 2.0, "ed": 4.0, "label": "b"}]
        entry = {"id": split, "path": "day.wav", "offset": 6.0 * place, "length": 6.0, "annotations": annotations}
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(entry) + "\n")
    (tmp_path / "day.toml").write_text(
        'name = "day"\nkind = "detection"\nwindow_width = 1\nwindow_shift = 1\n'
        'train = "train.jsonl"\nvalid = "valid.jsonl"\ntest = "test.jsonl"\n'
    )
    row, _ = submitted(beans, statistics, "--tasks", tmp_path / "day.toml")
    assert row["data_warnings"] == []
