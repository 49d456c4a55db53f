"""A task has the same items whichever copy it is read from: its origin, a BEANS checkout, or parquet files."""

import gc
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import hub_server
import numpy as np
import parquet_copy
import pytest
import replicas_clips
import replicas_recordings
import soundfile
from datasets import ClassLabel, Dataset, Features, Value

from tasks.manifest import read_manifest
from tasks.prepare import prepare
from tasks.prepare.entries import ClipEntry, Entry
from tasks.prepare.origins import origin
from tasks.prepare.sources import beans, huggingface
from tasks.prepare.state import MARK
from tasks.sound import decode, read_header
from tasks.support.errors import UserError
from tasks.task import Task, load_task
from tasks.verify import verify

ALL = [*replicas_clips.TASKS, *replicas_recordings.TASKS]
# Half of the data sets come with the few-label variant, so that both cases are seen of clips and of recordings.
WITH_LOW = set(ALL[::2])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of `datasets` of the test's own, and nothing left of its audio afterwards."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    yield tmp_path / "cache"
    shutil.rmtree(tmp_path)


def facts(entries: Sequence[Entry], low: bool = True) -> list[tuple[object, ...]]:
    """All of each entry but where its sound lies."""
    return [
        (
            entry.id,
            entry.split,
            entry.label if isinstance(entry, ClipEntry) else (entry.length, entry.annotations),
            entry.recording,
            entry.low and low,
        )
        for entry in entries
    ]


def task(name: str) -> Task:
    return load_task(name, data=Path("data"))


def rows(name: str, checkout: Path, split: str) -> int:
    """How many rows a list of BEANS has; none where there is no such list."""
    file = checkout / "data" / parquet_copy.LISTS[name].format(split)
    return len(file.read_text().splitlines()) - (file.suffix == ".csv") if file.is_file() else 0


# --- all twelve ---


@pytest.mark.parametrize("name", ALL)
def test_every_copy_has_the_same_items(tmp_path: Path, name: str) -> None:
    replicas = replicas_clips if name in replicas_clips.TASKS else replicas_recordings
    replicas.origin(name, tmp_path / "origin")
    replicas.beans(name, tmp_path / "origin", tmp_path / "checkout")
    parquet_copy.write(name, tmp_path / "checkout", tmp_path / "parquet", low=name in WITH_LOW)

    published = origin(name).read(tmp_path / "origin")
    checkout = beans.read(task(name), tmp_path / "checkout")
    parquet = huggingface.read(task(name), tmp_path / "parquet")
    assert {entry.split for entry in published} == {"train", "valid", "test"}
    assert facts(checkout) == facts(published), "the BEANS checkout has other items than the origin"
    assert facts(parquet) == facts(published, low=name in WITH_LOW), "the parquet files have other items"
    counts = {split: rows(name, tmp_path / "checkout", split) for split in ("train", "valid", "test", "train-low")}
    assert len({entry.id for entry in published}) == counts["train"] + counts["valid"] + counts["test"], "rows are lost"
    for split in ("train", "valid", "test"):
        assert sum(entry.split == split for entry in published) == counts[split], f"rows of {split} are lost"
    assert sum(entry.low for entry in published) == counts["train-low"], "the few-label variant has another size"

    assert len({entry.sound.file for entry in parquet}) == len(parquet), "two items are taken for one file's"
    for in_checkout, in_parquet in zip(checkout, parquet, strict=True):
        file, read = in_checkout.sound.file, in_parquet.sound.file
        assert isinstance(file, Path) and callable(read)
        assert read().bytes == file.read_bytes(), f"the parquet file's sound of {in_parquet.id} is another item's"
    header = read_header(content := read())
    heard, _ = soundfile.read(file, dtype="float32", always_2d=True)
    assert header.frames == len(heard)
    np.testing.assert_allclose(decode(content, header, header.frames), heard.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("name", ["speech-commands", "rfcx"])
def test_a_task_is_prepared_the_same_from_a_checkout_and_from_parquet_files(tmp_path: Path, name: str) -> None:
    replicas = replicas_clips if name in replicas_clips.TASKS else replicas_recordings
    replicas.origin(name, tmp_path / "origin")
    replicas.beans(name, tmp_path / "origin", tmp_path / "checkout")
    parquet_copy.write(name, tmp_path / "checkout", tmp_path / "parquet")
    prepare(name, tmp_path / "a", copy="beans", source=tmp_path / "checkout")
    prepare(name, tmp_path / "b", copy="huggingface", source=tmp_path / "parquet")
    files = {path.relative_to(tmp_path / "a") for path in (tmp_path / "a" / name).rglob("*") if path.is_file()}
    assert sum(path.suffix == ".flac" for path in files) > 10
    for file in files - {Path(name) / MARK}:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), f"{file} differs"


def test_a_file_that_two_rows_name_is_two_items_to_the_end(tmp_path: Path) -> None:
    replicas_clips.origin("dogs", tmp_path / "origin")
    replicas_clips.beans("dogs", tmp_path / "origin", tmp_path / "checkout")
    parquet_copy.write("dogs", tmp_path / "checkout", tmp_path / "parquet")
    prepare("dogs", tmp_path / "1", source=tmp_path / "origin")
    prepare("dogs", tmp_path / "2", copy="beans", source=tmp_path / "checkout")
    prepare("dogs", tmp_path / "3", copy="huggingface", source=tmp_path / "parquet")
    prepare("dogs", tmp_path / "4", copy="beans", source=tmp_path / "checkout", in_place=True)
    made = [read_manifest(load_task("dogs", data=tmp_path / number)) for number in "1234"]
    assert len({one.split_hash for one in made}) == 1, "the copies are not one data set"
    for one in made:
        for split, items in one.items.items():
            assert len(items) == rows("dogs", tmp_path / "checkout", split), f"rows of {split} are lost"
    in_place = {item.id: item.path for items in made[3].items.values() for item in items}
    twins = [name for name in in_place if name.endswith("~2")]
    assert twins and all(in_place[name] == in_place[name.removesuffix("~2")] for name in twins)
    for number in "123":
        audio = tmp_path / number / "dogs" / "audio"
        assert len(list(audio.iterdir())) == len(in_place), "an item has no file"
        for name in twins:
            twin = audio / f"{name.removesuffix('~2')}.flac"
            assert (audio / f"{name}.flac").read_bytes() == twin.read_bytes(), "two rows of a file sound different"


def test_verify_names_the_barks_that_are_in_two_splits(tmp_path: Path) -> None:
    replicas_clips.origin("dogs", tmp_path / "origin")
    replicas_clips.beans("dogs", tmp_path / "origin", tmp_path / "checkout")
    prepare("dogs", tmp_path / "data", copy="beans", source=tmp_path / "checkout", in_place=True)
    splits: dict[str, set[str]] = {}
    for split in ("train", "valid", "test"):
        for line in (tmp_path / "checkout/data/dogs" / f"annotations.{split}.csv").read_text().splitlines()[1:]:
            splits.setdefault(Path(line.split(",")[1]).stem, set()).add(split)
    shared = {name for name, places in splits.items() if len(places) > 1}
    assert shared, "the replica lacks what this is about"
    findings = verify(load_task("dogs", data=tmp_path / "data"), lambda what, done, total, unit: None)
    ((_, status, says),) = (finding.cells for finding in findings if finding.name == "shared audio")
    assert status == "note"
    pairs = re.findall(r"(\S+) \(\w+\) = (\S+) \(\w+\)", says)
    named = {one.removesuffix("~2") for one, _ in pairs}
    assert all(set(pair) == {name := min(pair), f"{name}~2"} for pair in pairs), "two barks are taken for one"
    assert named and named <= shared
    more = re.search(r"and (\d+) more", says)
    assert len(named) + (int(more[1]) if more else 0) == len(shared), "a bark in two splits is not told"


# --- a BEANS checkout ---


def lists(task_name: str, root: Path, lines: dict[str, list[tuple[str, object]]]) -> Path:
    """Write a checkout's CSV files of (audio file, label) with audio that is there; the task's folder."""
    folder, pattern = {
        "watkins": ("watkins", "annotations.{}.csv"),
        "humbugdb": ("HumBugDB", "data/metadata/{}.csv"),
        "hainan-gibbons": ("hainan_gibbons", "{}.jsonl"),
    }[task_name]
    for split, rows in lines.items():
        file = root / "data" / folder / pattern.format(split)
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".csv":
            text = "".join(f'{i * 7},data/{folder}/{name},"{label}"\n' for i, (name, label) in enumerate(rows))
            file.write_text(",path,label\n" + text)
        else:
            spans = [{"path": f"data/{folder}/{name}", "length": 60.0, "annotations": label} for name, label in rows]
            file.write_text("".join(json.dumps(line) + "\n" for line in spans))
        for name, _ in rows:
            (root / "data" / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "data" / folder / name).write_bytes(b"RIFF")
    return root / "data" / folder


CLIPS: dict[str, list[tuple[str, object]]] = {
    "train": [("a/1.wav", "Walrus"), ("a/2.wav", "Grampus,_Rissos_Dolphin")],
    "train-low": [("a/2.wav", "Grampus,_Rissos_Dolphin")],
    "valid": [("a/3.wav", "Walrus")],
    "test": [("a/4.wav", "Walrus")],
}
CHUNKS: dict[str, list[tuple[str, object]]] = {
    "train": [("wav/HG.A.000.wav", [{"st": 1, "ed": 2.5, "label": 1.0}, {"st": 9, "ed": 8, "label": float("nan")}])],
    "valid": [("wav/HG.A.003.wav", [])],
    "test": [("wav/HG_B.000.wav", [{"st": 0, "ed": 0, "label": 3}])],
}


@pytest.mark.parametrize("name", ["watkins", "humbugdb", "hainan-gibbons"])
def test_a_checkout_is_found_from_its_root_its_data_directory_and_the_tasks_folder(tmp_path: Path, name: str) -> None:
    folder = lists(name, tmp_path, CHUNKS if name == "hainan-gibbons" else CLIPS)
    entries = beans.read(task(name), tmp_path)
    assert len(entries) == len(CHUNKS if name == "hainan-gibbons" else CLIPS)
    for root in (tmp_path / "data", folder):
        assert beans.read(task(name), root) == entries
    renamed = folder.rename(tmp_path / "copied to another place")
    assert facts(beans.read(task(name), renamed)) == facts(entries)


def test_a_checkouts_clips_have_the_labels_and_the_low_split_of_its_lists(tmp_path: Path) -> None:
    folder = lists("watkins", tmp_path, CLIPS)
    entries = beans.read(task("watkins"), tmp_path)
    assert facts(entries) == [
        ("Grampus,_Rissos_Dolphin/2", "train", "Grampus,_Rissos_Dolphin", "Grampus,_Rissos_Dolphin/2", True),
        ("Walrus/1", "train", "Walrus", "Walrus/1", False),
        ("Walrus/3", "valid", "Walrus", "Walrus/3", False),
        ("Walrus/4", "test", "Walrus", "Walrus/4", False),
    ]
    assert entries[0].sound.file == folder / "a" / "2.wav"


def test_labels_that_pandas_takes_for_missing_stay_text(tmp_path: Path) -> None:
    lists("watkins", tmp_path, {**CLIPS, "test": [("a/4.wav", "nan"), ("a/5.wav", "NA")], "valid": [("3.wav", "None")]})
    entries = beans.read(task("watkins"), tmp_path)
    assert [label for _, split, label, *_ in facts(entries) if split != "train"] == ["NA", "None", "nan"]


def test_rows_that_share_a_name_are_numbered_and_keep_their_labels_and_low_split(tmp_path: Path) -> None:
    twice = ("a/5.wav", "an dirus")
    rows: dict[str, list[tuple[str, object]]] = {
        "train": [("a/4.wav", "others"), twice, ("a/5.wav", "ae aegypti"), twice, twice],
        "train-low": [twice, twice],
        "valid": [("b/5.wav", "others"), twice],
        "test": [("a/4.wav", "others")],
    }
    folder = lists("humbugdb", tmp_path, rows)
    entries = beans.read(task("humbugdb"), tmp_path)
    assert facts(entries) == [
        ("4", "test", "others", "4", False),
        ("4~2", "train", "others", "4", False),
        ("5", "train", "ae aegypti", "5", False),
        ("5~2", "train", "an dirus", "5", True),
        ("5~3", "train", "an dirus", "5", True),
        ("5~4", "train", "an dirus", "5", False),
        ("5~5", "valid", "an dirus", "5", False),
        ("5~6", "valid", "others", "5", False),
    ]
    assert [entry.sound.file for entry in entries] == [folder / "a/4.wav"] * 2 + [folder / "a/5.wav"] * 5 + [
        folder / "b/5.wav"
    ]
    (folder / "a" / "5.wav").unlink()
    with pytest.raises(
        UserError, match=r"^1 of the audio files that the lists in .* name are missing, such as \S+5.wav"
    ):
        beans.read(task("humbugdb"), tmp_path)


def test_a_checkouts_chunks_have_the_labels_and_times_of_its_lines(tmp_path: Path) -> None:
    lists("hainan-gibbons", tmp_path, CHUNKS)
    assert facts(beans.read(task("hainan-gibbons"), tmp_path)) == [
        ("HG.A.000", "train", (60.0, ((1.0, 2.5, "1"), (9.0, 8.0, "nan"))), "HG.A", False),
        ("HG.A.003", "valid", (60.0, ()), "HG.A", False),
        ("HG_B.000", "test", (60.0, ((0.0, 0.0, "3"),)), "HG_B", False),
    ]


def test_a_checkout_without_the_task_says_where_to_point(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data/watkins/annotations.train.csv does not exist: --source must point at a"):
        beans.read(task("watkins"), tmp_path)
    folder = lists("watkins", tmp_path, CLIPS)
    (folder / "annotations.valid.csv").unlink()
    with pytest.raises(UserError, match=r"data/watkins/annotations.valid.csv does not exist: --source must point at"):
        beans.read(task("watkins"), folder)


def test_another_tasks_folder_is_not_taken_for_this_tasks(tmp_path: Path) -> None:
    # Every label that hainan-gibbons does not know counts as its first, so nothing later would notice.
    folder = lists("hainan-gibbons", tmp_path, CHUNKS)
    with pytest.raises(UserError, match=r"train.jsonl, line 1: data/hainan_gibbons/.* is not below data/dcase/: these"):
        beans.read(task("dcase"), folder)


def test_missing_audio_of_a_checkout_is_counted_and_named(tmp_path: Path) -> None:
    folder = lists("watkins", tmp_path, CLIPS)
    for number in (1, 2, 3, 4):
        (folder / "a" / f"{number}.wav").unlink()
    with pytest.raises(
        UserError, match=r"^4 of the audio files that the lists in .* name are missing, such as .*a/1.wav, .*a/3.wav: "
    ):
        beans.read(task("watkins"), tmp_path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (",path,species\n0,data/watkins/a/1.wav,Walrus\n", "has no column 'label' but Unnamed: 0, path, species"),
        ("", "annotations.train.csv is not a CSV file"),
        (',path,label\n0,"data/watkins/a/1.wav,Walrus\n', "annotations.train.csv is not a CSV file"),
        (",path,label\n0,data/watkins/a/1.wav,Walrus\n7,data/watkins/a/2.wav,\n", "line 3: the label is empty"),
        (",path,label\n0,,Walrus\n", "line 2: path '' is not the name of a file"),
        ("\xff\xfe", "annotations.train.csv cannot be read as UTF-8 text"),
    ],
)
def test_a_broken_list_of_clips_is_one_sentence(tmp_path: Path, content: str, sentence: str) -> None:
    folder = lists("watkins", tmp_path, CLIPS)
    (folder / "annotations.train.csv").write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=sentence):
        beans.read(task("watkins"), tmp_path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"annotations": None}, "line 1: 'annotations' is not a list of st, ed and label"),
        ({"annotations": [{"st": 1, "ed": 2}]}, "line 1: 'annotations' is not a list of st, ed and label"),
        ({"annotations": [{"st": 1, "ed": float("nan"), "label": 1}]}, "line 1: 'ed' is nan and not a time in seconds"),
        ({"annotations": [{"st": "1", "ed": 2, "label": 1}]}, "line 1: 'st' is '1' and not a time in seconds"),
        ({"length": True}, "line 1: 'length' is True and not a time in seconds"),
        ({"length": 0}, "line 1: the length is 0 s"),
        ({"path": 3}, "line 1: path 3 is not the name of a file"),
    ],
)
def test_a_broken_line_of_a_recording_is_one_sentence(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    file = lists("hainan-gibbons", tmp_path, CHUNKS) / "train.jsonl"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(UserError, match=f"train.jsonl, {sentence}"):
        beans.read(task("hainan-gibbons"), tmp_path)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [("{", "not valid JSON"), ("[]", "not an object of path, length"), ('{"path": "a"}', "not an object of path")],
)
def test_a_line_that_is_no_recording_is_one_sentence(tmp_path: Path, line: str, sentence: str) -> None:
    file = lists("hainan-gibbons", tmp_path, CHUNKS) / "test.jsonl"
    file.write_text(f"\n{line}\n")
    with pytest.raises(UserError, match=f"test.jsonl, line 2: {sentence}"):
        beans.read(task("hainan-gibbons"), tmp_path)


# --- parquet files ---


def clip(name: str | None, label: object, data: bytes | None = b"RIFF") -> dict[str, object]:
    return {"path": {"bytes": data, "path": name}, "label": label}


def store(directory: Path, train: Sequence[dict[str, Any]], **features: Any) -> None:
    """Write those rows as the train split, and one row more as valid and as test."""
    for split, rows in {"train": train, "valid": train[-1:], "test": train[-1:]}.items():
        renamed = [
            {**row, "path": {**row["path"], "path": row["path"]["path"] and f"{split}-{row['path']['path']}"}}
            for row in rows
        ]
        parquet_copy.store(renamed, directory, split, **features)


def test_names_of_classes_are_taken_and_not_their_numbers(tmp_path: Path) -> None:
    names = ["Narwhal", "Walrus", "Beluga,_White_Whale"]
    store(tmp_path / "pq", [clip("1.wav", 2), clip("2.wav", 1)], label=ClassLabel(names=names))
    assert [label for _, _, label, *_ in facts(huggingface.read(task("watkins"), tmp_path / "pq"))] == [
        "Beluga,_White_Whale",  # train-1
        "Walrus",  # test-2, train-2, valid-2
        "Walrus",
        "Walrus",
    ]


def test_labels_that_are_numbers_are_the_same_as_text(tmp_path: Path) -> None:
    store(tmp_path / "pq", [clip("1.wav", 111), clip("2.wav", 231)])
    assert {entry[2] for entry in facts(huggingface.read(task("bats"), tmp_path / "pq"))} == {"111", "231"}


def test_classes_that_are_numbered_without_names_are_refused(tmp_path: Path) -> None:
    store(tmp_path / "pq", [clip("1.wav", 0), clip("2.wav", 1)])
    with pytest.raises(UserError, match=r"labels 0/train-1 with '0', which watkins does not have: .* another --from"):
        huggingface.read(task("watkins"), tmp_path / "pq")


SPANS = {"st": [1.0, 9.0], "ed": [2.5, 8.0], "label": ["1", "3"]}
TIMES = {"st": Value("float64"), "ed": Value("float64")}


def as_rows(spans: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(spans, values, strict=True)) for values in zip(*spans.values(), strict=True)]


@pytest.mark.parametrize(
    ("annotations", "features"),
    [
        (as_rows(SPANS), {}),
        (as_rows({**SPANS, "label": [1, 3]}), {}),
        (as_rows({**SPANS, "label": [1.0, 3.0]}), {}),
        (as_rows({**SPANS, "label": [0, 2]}), {"annotations": [{**TIMES, "label": ClassLabel(names=["1", "2", "3"])}]}),
        (SPANS, {}),
        (
            {**SPANS, "label": [0, 2]},
            {"annotations": datasets.Sequence({**TIMES, "label": ClassLabel(names=["1", "2", "3"])})},
        ),
    ],
    ids=["list", "integers", "floats", "classes", "three lists", "three lists with classes"],
)
def test_annotations_are_read_however_datasets_stored_them(
    tmp_path: Path, annotations: Any, features: dict[str, Any]
) -> None:
    none = [] if isinstance(annotations, list) else {key: [] for key in annotations}
    rows = [
        {"path": {"bytes": b"RIFF", "path": f"HG.{i:03d}.wav"}, "length": 60.0 - i, "annotations": spans}
        for i, spans in enumerate([annotations, none, annotations])
    ]
    store(tmp_path / "pq", rows, **features)
    found = facts(huggingface.read(task("hainan-gibbons"), tmp_path / "pq"))
    expected = ((1.0, 2.5, "1"), (9.0, 8.0, "3"))
    assert found[1:4] == [
        ("train-HG.000", "train", (60.0, expected), "train-HG", False),
        ("train-HG.001", "train", (59.0, ()), "train-HG", False),
        ("train-HG.002", "train", (58.0, expected), "train-HG", False),
    ]


def test_parquet_files_are_found_in_parts_at_any_depth_and_by_either_name_of_a_split(tmp_path: Path) -> None:
    source = tmp_path / "pq"
    for number in range(3):
        parquet_copy.store([clip(f"{number}.wav", "Walrus")], source / "a", f"train-{number}")
    for name, split in {"7": "validation", "8": "test"}.items():
        parquet_copy.store([clip(f"{name}.wav", "Narwhal")], source / "a" / "b", split)
    parquet_copy.store([clip("1.wav", "Walrus")], source, "train-low")
    parquet_copy.store([clip("9.wav", "Walrus")], source, "training-notes")
    found = facts(huggingface.read(task("watkins"), source))
    assert [(name, split, low) for name, split, _, _, low in found] == [
        ("Narwhal/7", "valid", False),
        ("Narwhal/8", "test", False),
        ("Walrus/0", "train", False),
        ("Walrus/1", "train", True),
        ("Walrus/2", "train", False),
    ]


def test_what_is_no_data_set_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no parquet files called train-.* below .*nothing: --source must point at"):
        huggingface.read(task("watkins"), tmp_path / "nothing")
    source = tmp_path / "pq"
    store(source, [clip("1.wav", "Walrus")])
    (source / "valid-00000-of-00001.parquet").rename(source / "v.parquet")
    with pytest.raises(UserError, match="pq has no valid split but test, train: download"):
        huggingface.read(task("watkins"), source)
    (source / "valid-00000-of-00001.parquet").write_bytes((source / "v.parquet").read_bytes()[:-100])
    with pytest.raises(UserError, match=r"pq cannot be loaded \(.*\): download the data set's parquet files again"):
        huggingface.read(task("watkins"), source)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (
            {"audio": {"bytes": b"x", "path": "1.wav"}, "label": "Walrus"},
            "has no column 'path' but audio, label: it is",
        ),
        ({"path": {"bytes": b"x", "path": "1.wav"}, "species": "Walrus"}, "has no column 'label' but path, species"),
        ({"path": {"bytes": b"x", "path": None}, "label": "Walrus"}, "Row 0 of .* does not name its audio file"),
        ({"path": b"RIFF", "label": "Walrus"}, "Row 0 of .* does not name its audio file"),
        (
            {"path": {"bytes": None, "path": "1.wav"}, "label": "Walrus"},
            "1 of the rows of .* name an audio file but do",
        ),
        ({"path": "1.wav", "label": "Walrus"}, "1 of the rows of .* name an audio file but do not hold it"),
        ({"path": 1, "label": "Walrus"}, "The column 'path' of .* is not audio"),
        ({"path": {"bytes": b"x", "path": "1.wav"}, "label": None}, "train row 0: the label is empty"),
    ],
)
def test_rows_of_another_form_are_one_sentence(tmp_path: Path, row: dict[str, Any], sentence: str) -> None:
    plain = {"bytes": Value("binary"), "path": Value("string")}
    types = {key: Features(plain) if isinstance(value, dict) else None for key, value in row.items()}
    rows = Dataset.from_list([row])
    if any(types.values()):
        rows = rows.cast(Features({key: plain if types[key] else Value("string") for key in row}))
    for split in ("train", "valid", "test"):
        rows.to_parquet(tmp_path / f"{split}.parquet")
    with pytest.raises(UserError, match=sentence):
        huggingface.read(task("watkins"), tmp_path)


def test_recordings_without_length_are_one_sentence(tmp_path: Path) -> None:
    store(tmp_path / "pq", [clip("1.000.wav", "AMRE")])
    with pytest.raises(UserError, match="has no column 'length' but path, label: it is not what BEANS' dcase looks"):
        huggingface.read(task("dcase"), tmp_path / "pq")


READ = """
import os, sys
from pathlib import Path
import datasets, psutil
from tasks.support.errors import UserError
from tasks.prepare.sources import huggingface
from tasks.task import load_task

def read(name, source):
    try:
        return huggingface.read(load_task(name, data=Path("data")), source)
    except UserError as error:
        raise SystemExit(f"UserError: {error}")
"""


def run(code: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run in a process of its own: `datasets` reads its settings once."""
    settings = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return subprocess.run(
        [sys.executable, "-c", READ + code, *map(str, arguments)],
        check=False,
        env={**settings, "HF_HUB_OFFLINE": "0", **environment},
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.mark.slow
def test_reading_the_entries_does_not_read_their_audio(tmp_path: Path) -> None:
    sounds = [np.random.default_rng(i).bytes(2**20) for i in range(64)]
    store(tmp_path / "big", [clip(f"{i}.wav", "Walrus", sound) for i, sound in enumerate(sounds)])
    store(tmp_path / "small", [clip("1.wav", "Walrus")])
    code = """
read("watkins", Path(sys.argv[1]) / "small")  # so that all modules are loaded
before = psutil.Process().memory_info().rss
entries = read("watkins", Path(sys.argv[1]) / "big")
print(len(entries), (psutil.Process().memory_info().rss - before) / 2**20)
"""
    # Mapped pages count as soon as they are touched; the first run is the one that fills the cache.
    run(code, tmp_path, HF_HOME=str(tmp_path / "home"))
    second = run(code, tmp_path, HF_HOME=str(tmp_path / "home"))
    count, grown = second.stdout.split()
    assert count == "66", second.stderr
    assert float(grown) < 16, f"{grown} MiB of 66 were read for the labels alone"


# --- the hub ---


@pytest.mark.slow
def test_the_hub_is_read_and_then_its_cache_without_network(tmp_path: Path) -> None:
    store(tmp_path / "repository" / "data", [clip("1.wav", "Walrus", b"one"), clip("2.wav", "Narwhal", b"two")])
    parquet_copy.store([clip("train-2.wav", "Narwhal")], tmp_path / "repository" / "data", "train_low")
    code = 'print([(e.id, e.label, e.low, e.sound.file().bytes) for e in read("watkins", None)])'
    home = str(tmp_path / "home")
    with hub_server.serve("DBD-research-group/beans_watkins", tmp_path / "repository") as address:
        online = run(code, HF_HOME=home, HF_ENDPOINT=address)
    expected = [
        ("Narwhal/test-2", "Narwhal", False, b"two"),
        ("Narwhal/train-2", "Narwhal", True, b"two"),
        ("Narwhal/valid-2", "Narwhal", False, b"two"),
        ("Walrus/train-1", "Walrus", False, b"one"),
    ]
    assert online.stdout == f"{expected}\n", online.stderr
    offline = run(code, HF_HOME=home, HF_ENDPOINT=address, HF_HUB_OFFLINE="1")
    assert offline.stdout == f"{expected}\n", offline.stderr


def test_a_data_set_that_the_hub_does_not_have_is_one_sentence(tmp_path: Path) -> None:
    with hub_server.serve("DBD-research-group/beans_watkins", tmp_path) as address:
        result = run('read("hainan-gibbons", None)', HF_HOME=str(tmp_path / "home"), HF_ENDPOINT=address)
    assert result.returncode == 1 and result.stdout == ""
    sentence = result.stderr.strip().splitlines()[-1]
    assert sentence.startswith("UserError: DBD-research-group/beans_gibbons cannot be loaded (Dataset 'DBD-")
    assert sentence.endswith("give the directory of its parquet files with --source, or prepare with another --from.")


def test_no_network_is_said_at_once(tmp_path: Path) -> None:
    started = time.monotonic()
    # Nothing listens at port 9 of this machine.
    result = run('read("watkins", None)', HF_HOME=str(tmp_path / "home"), HF_ENDPOINT="http://127.0.0.1:9")
    assert time.monotonic() - started < 20, "it tried again and again before it said so"
    sentence = result.stderr.strip().splitlines()[-1]
    assert sentence.startswith("UserError: DBD-research-group/beans_watkins cannot be fetched: http://127.0.0.1:9 does")
    assert "(HF_HUB_OFFLINE=1 takes what was fetched before), give the directory of its parquet" in sentence


def test_offline_without_a_cache_is_one_sentence(tmp_path: Path) -> None:
    result = run('read("watkins", None)', HF_HOME=str(tmp_path / "home"), HF_HUB_OFFLINE="1")
    sentence = result.stderr.strip().splitlines()[-1]
    assert sentence.startswith("UserError: DBD-research-group/beans_watkins cannot be loaded (")
    assert sentence.endswith("give the directory of its parquet files with --source, or prepare with another --from.")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk_names_the_setting_that_moves_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(tmp_path / "pq", [clip("1.wav", "Walrus", os.urandom(2**21))])
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=False).returncode != 0:
        pytest.skip("no tmpfs can be mounted here")
    try:
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", disk)
        with pytest.raises(UserError, match=r"The disk of .*disk is full, where `datasets` keeps .*pq: .* set HF_HOME"):
            huggingface.read(task("watkins"), tmp_path / "pq")
    finally:
        # Python 3.12 still holds the half-written file in a cycle of the exception, and a busy disk stays mounted.
        gc.collect()
        subprocess.run(["umount", str(disk)], check=True)
