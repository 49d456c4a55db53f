"""Verification must notice what makes a result incomparable: items too few, other ids, broken or shared audio."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tasks.manifest import read_manifest
from tasks.sound.mp3 import count_frames
from tasks.support.findings import Finding
from tasks.task import Published, Task, load_task
from tasks.verify import verify

RATE = 8000


def noise(seed: int, seconds: float = 1.0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(int(seconds * RATE))


@pytest.fixture
def clips(tmp_path: Path) -> Task:
    rows = ["id,path,label,split"]
    for number in range(10):
        soundfile.write(tmp_path / f"{number}.wav", noise(number), RATE)
        rows.append(
            f"c{number},{number}.wav,{'xy'[number % 2]},{('train', 'train', 'train', 'valid', 'test')[number // 2]}"
        )
    (tmp_path / "clips.csv").write_text("\n".join(rows))
    (tmp_path / "own.toml").write_text('name = "own"\nkind = "classification"\nclips = "clips.csv"\nmax_duration = 0.5')
    return load_task(str(tmp_path / "own.toml"), data=tmp_path)


def found(task: Task) -> dict[str, Finding]:
    return {finding.name: finding for finding in verify(task, lambda what, done, total, unit: None)}


def published(task: Task, **facts: object) -> Task:
    return task.model_copy(update={"published": Published.model_validate(facts)})


def test_a_whole_task_passes_and_its_facts_are_true(clips: Task) -> None:
    ids = {split: sorted(item.id for item in items) for split, items in read_manifest(clips).items.items()}
    hashes = {split: hashlib.sha256("\n".join(names).encode()).hexdigest() for split, names in ids.items()}
    task = published(clips, items={"train": 6, "valid": 2, "test": 2}, ids_sha256=hashes)
    report = found(task)
    assert [name for name, finding in report.items() if finding.status == "fail"] == []
    assert report["items"].says == "6 / 2 / 2 (train / valid / test), as published"
    assert report["ids of train"].status == report["ids of test"].status == "pass"
    assert report["split hash"].says == read_manifest(task).split_hash
    assert report["durations of train"].says.startswith("0.50 to 0.50 s"), "not as the backbone will hear it"
    assert report["sample rates"].says == "10 at 8000 Hz"
    assert report["shared audio"].status == report["silence"].status == report["readable"].status == "pass"


def test_items_that_are_not_all_there_fail(clips: Task) -> None:
    report = found(published(clips, items={"train": 7, "valid": 2, "test": 2}))
    assert report["items"].status == "fail"
    assert "6 / 2 / 2 (train / valid / test), but 7 / 2 / 2 are published" in report["items"].says


def test_another_split_of_the_same_size_fails(clips: Task) -> None:
    report = found(published(clips, ids_sha256={"test": hashlib.sha256(b"c1\nc2").hexdigest()}))
    assert report["ids of test"].status == "fail"


def test_damaged_and_missing_files_are_named(clips: Task) -> None:
    (clips.root / "3.wav").write_bytes((clips.root / "3.wav").read_bytes()[:3000])
    (clips.root / "4.wav").unlink()
    (clips.root / "5.wav").write_bytes(b"no audio at all")
    readable = found(clips)["readable"]
    assert readable.status == "fail"
    assert all(f"{number}.wav" in readable.says for number in (3, 4, 5)), readable.says
    assert all(f"{number}.wav" not in readable.says for number in (0, 1, 2, 6))
    assert readable.says.endswith("mend or replace what is named here"), "nothing prepares a task of one's own"
    made = clips.model_copy(update={"group": "core"})
    assert "`beans tasks prepare own --again`" in found(made)["readable"].says


def test_every_damaged_file_is_listed_with_its_line(clips: Task) -> None:
    """Sixty bad files were three names and "57 more": they had to be found three at a time."""
    for number in range(5):
        (clips.root / f"{number}.wav").write_bytes(b"no audio at all")
    readable = found(clips)["readable"]
    assert readable.says.count(".wav") == 3 and "and 2 more" in readable.says
    assert [(file.path, file.place) for file in readable.files] == [
        (str(clips.root / f"{number}.wav"), f"{clips.root / 'clips.csv'}, line {number + 2}") for number in range(5)
    ]
    assert all(f"{number}.wav is not audio" in file.reason for number, file in enumerate(readable.files))
    assert readable.as_json()["files"][4]["path"] == str(clips.root / "4.wav")


def test_a_crop_of_less_than_a_sample_fails(clips: Task) -> None:
    """Every clip was empty, and a score of chance was published."""
    report = found(clips.model_copy(update={"max_duration": 1e-4}))
    assert report["lengths"].status == "fail"
    assert "max_duration is 0.0001 s, which is shorter than one sample at 8000 Hz" in report["lengths"].says


def test_what_the_manifest_warns_of_is_a_finding(clips: Task) -> None:
    report = found(clips.model_copy(update={"labels": ("x", "y", "z")}))
    assert report["manifest"].status == "note" and "'z': no probe can learn it" in report["manifest"].says
    assert found(clips)["manifest"].status == "pass"


def test_sound_in_two_splits_is_found_whatever_it_is_encoded_as(clips: Task) -> None:
    samples, _ = soundfile.read(clips.root / "0.wav", dtype="int16")
    # The same sound as FLAC, and with another second half, which is not used.
    samples = samples.copy()
    samples[RATE // 2 :] = 0
    soundfile.write(clips.root / "9.flac", samples, RATE, subtype="PCM_16")
    shutil.move(clips.root / "9.flac", clips.root / "9.wav")
    report = found(clips)
    assert report["shared audio"].status == "note"
    assert "c0 (train) = c9 (test)" in report["shared audio"].says


def test_the_same_sound_twice_in_one_split_is_not_shared(clips: Task) -> None:
    shutil.copy(clips.root / "0.wav", clips.root / "1.wav")
    assert found(clips)["shared audio"].status == "pass"


def test_silent_files_are_named(clips: Task) -> None:
    soundfile.write(clips.root / "2.wav", np.full(RATE, 0.25), RATE)
    report = found(clips)
    assert (report["silence"].status, report["silence"].says) == ("note", "silent: c2")
    assert report["shared audio"].status == "pass"


def test_channels_that_cancel_clipped_sounds_and_cut_ends_are_named(clips: Task) -> None:
    """An encoder hears the mean over channels, which here is silence."""
    report = found(clips)
    assert report["channels"].status == report["clipping"].status == "pass" and "MP3" not in report
    soundfile.write(clips.root / "3.wav", np.stack([noise(3), -noise(3)], 1), RATE)
    soundfile.write(clips.root / "4.wav", np.clip(100 * noise(4), -1, 1), RATE)
    soundfile.write(clips.root / "whole.mp3", noise(5), RATE)
    # Without the frame that states its length, and without its last bytes.
    whole = (clips.root / "whole.mp3").read_bytes()
    frames = count_frames(whole)
    assert frames is not None
    (clips.root / "5.wav").write_bytes(whole[frames.audio : -20])
    report = found(clips)
    assert report["channels"].status == "note" and report["channels"].says.endswith("quieter: c3")
    assert report["clipping"].status == "note" and report["clipping"].says.endswith("full scale: c4")
    assert report["silence"].status == "pass", "named once"
    assert report["MP3"].status == "note" and report["MP3"].says.endswith("missing: c5")


def test_a_recording_shorter_than_its_manifest_says_fails(tmp_path: Path) -> None:
    keys = [
        "window_width = 2",
        "window_shift = 1",
        *(f'{split} = "{split}.jsonl"' for split in ("train", "valid", "test")),
    ]
    (tmp_path / "own.toml").write_text("\n".join(['name = "own"', 'kind = "detection"', *keys, 'labels = ["x"]']))
    for seed, split in enumerate(("train", "valid", "test")):
        soundfile.write(tmp_path / f"{split}.wav", noise(seed, 10 if split == "train" else 5.2), RATE)
        line = {"path": f"{split}.wav", "length": 5.2 if split == "valid" else 10}
        line["annotations"] = [{"st": 1, "ed": 3, "label": "x"}]
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(line))
    report = found(load_task(str(tmp_path / "own.toml"), data=tmp_path))
    assert report["lengths"].status == "fail"
    assert "test (5.2 s)" in report["lengths"].says.replace(".wav", "")
    [file] = report["lengths"].files
    assert (file.path, file.place) == (str(tmp_path / "test.wav"), f"{tmp_path / 'test.jsonl'}, line 1")
    assert file.reason == "it is 5.2 s long, and its windows need 10 s"
    assert "valid" not in report["lengths"].says and "train" not in report["lengths"].says
