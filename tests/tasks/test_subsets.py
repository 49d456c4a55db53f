"""A subset of the train split must be the same for everyone, or results with few labels cannot be compared."""

import json
from collections import Counter
from pathlib import Path

import pytest

from tasks.manifest import read_manifest
from tasks.subsets import few_labels, limit, shots
from tasks.support.errors import UserError
from tasks.task import Manifest, load_task


def write_clips(directory: Path, rows: list[str]) -> Manifest:
    (directory / "own.toml").write_text('name = "own"\nkind = "classification"\nclips = "clips.csv"\n')
    (directory / "clips.csv").write_text("\n".join(["path,label,split,recording,low", *rows]) + "\n")
    return read_manifest(load_task(str(directory / "own.toml"), data=directory))


@pytest.fixture
def clips(tmp_path: Path) -> Manifest:
    rows = []
    for number in range(60):
        label = "abc"[number % 3]
        rows.append(f"{number:02d}.wav,{label},train,tape {number // 12},{int(number % 5 == 0)}")
    rows += ["rare.wav,d,train,tape 9,1", "v.wav,a,valid,v,0", "t.wav,b,test,t,1"]
    return write_clips(tmp_path, rows)


@pytest.fixture
def windows(tmp_path: Path) -> Manifest:
    keys = [
        "window_width = 2",
        "window_shift = 1",
        *(f'{split} = "{split}.jsonl"' for split in ("train", "valid", "test")),
    ]
    (tmp_path / "own.toml").write_text("\n".join(['name = "own"', 'kind = "detection"', *keys, 'labels = ["x", "y"]']))
    for split in ("train", "valid", "test"):
        lines = [
            {
                "path": f"{split}{number}.wav",
                "length": 30,
                "annotations": [{"st": 3, "ed": 9, "label": "x"}, {"st": 20, "ed": 21, "label": "y"}],
                "low": number == 1,
            }
            for number in range(6)
        ]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return read_manifest(load_task(str(tmp_path / "own.toml"), data=tmp_path))


def label_counts(manifest: Manifest) -> dict[str, int]:
    return dict(Counter(manifest.labels[label] for item in manifest.items["train"] for label in item.labels))


def test_shots_keep_so_many_of_each_class_and_all_of_a_rare_one(clips: Manifest) -> None:
    few = shots(clips, 5)
    assert label_counts(few) == {"a": 5, "b": 5, "c": 5, "d": 1}
    assert (few.items["valid"], few.items["test"]) == (clips.items["valid"], clips.items["test"])
    assert few.labels == clips.labels, "the classes to tell apart changed"
    assert list(few.items["train"]) == [item for item in clips.items["train"] if item in few.items["train"]]


def test_shots_come_from_as_many_recordings_as_there_are(clips: Manifest) -> None:
    for label in "abc":
        tapes = {item.recording for item in shots(clips, 5).items["train"] if clips.labels[item.labels[0]] == label}
        assert len(tapes) == 5, f"{label}: shots of one recording say little about another"


def test_fewer_shots_are_part_of_more_and_another_seed_draws_others(clips: Manifest) -> None:
    drawn = [{item.id for item in shots(clips, k).items["train"]} for k in (1, 5, 10)]
    assert drawn[0] < drawn[1] < drawn[2]
    assert {item.id for item in shots(clips, 5, seed=1).items["train"]} != drawn[1]


def test_shots_do_not_depend_on_the_order_of_the_file(clips: Manifest, tmp_path: Path) -> None:
    header, *rows = (tmp_path / "clips.csv").read_text().splitlines()
    again = write_clips(tmp_path, rows[::-1])
    assert header.startswith("path")
    assert {item.id for item in shots(again, 5).items["train"]} == {item.id for item in shots(clips, 5).items["train"]}


def test_the_draw_is_the_same_on_every_machine_and_python(clips: Manifest) -> None:
    # Written down once; a change here makes every published k-shot result incomparable.
    assert sorted(item.id for item in shots(clips, 1).items["train"]) == ["02.wav", "13.wav", "45.wav", "rare.wav"]


def test_detection_keeps_windows_without_a_label_too(windows: Manifest) -> None:
    few = shots(windows, 3)
    train = few.items["train"]
    counts = label_counts(few)
    assert counts["x"] >= 3 and counts["y"] >= 3
    assert sum(not item.labels for item in train) == 6, "a detector needs to hear what it should not detect"
    for label in range(2):
        assert len({item.recording for item in train if label in item.labels}) >= 3
    assert sum(label == 0 for item in train for label in item.labels) < 10


def test_few_labels_are_those_the_data_set_says(clips: Manifest, windows: Manifest) -> None:
    kept = [item.id for item in few_labels(clips).items["train"]]
    assert kept == [f"{number:02d}.wav" for number in range(0, 60, 5)] + ["rare.wav"]
    assert {item.recording for item in few_labels(windows).items["train"]} == {"train1.wav"}
    assert len(few_labels(windows).items["test"]) == len(windows.items["test"])


def test_a_task_without_few_labels_says_what_to_do(tmp_path: Path) -> None:
    manifest = write_clips(
        tmp_path, ["a.wav,x,train,a,0", "b.wav,y,train,b,0", "c.wav,x,valid,c,1", "d.wav,x,test,d,1"]
    )
    with pytest.raises(UserError, match=r"no few-label split: mark .* column `low` .*clips\.csv, or use --shots"):
        few_labels(manifest)
    for name, told in (
        ("mini-calls", "the task is generated without one; use --shots"),
        ("cbi", "BEANS made none of it; use --shots"),
        ("watkins", "prepare it --from origin --again, or use --shots"),
    ):
        task = load_task(name, data=tmp_path)
        with pytest.raises(UserError, match=f"Task {name} has no few-label split: .*{told}"):
            few_labels(Manifest(task, manifest.labels, manifest.items))


@pytest.mark.parametrize("subset", [shots, limit])
def test_none_is_too_few(clips: Manifest, subset: object) -> None:
    with pytest.raises(UserError, match="at least 1"):
        subset(clips, 0)  # type: ignore[operator]
