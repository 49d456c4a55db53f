"""HumBugDB's real table gives the classes, counts and ids that others measured on."""

import hashlib
import os
from collections import Counter
from pathlib import Path

import pytest
import replicas_clips

from tasks.prepare.entries import ClipEntry
from tasks.prepare.origins import origin
from tasks.task import SPLITS, load_task

SHARED = Path(os.environ.get("BEANS_SHARED", Path(__file__).resolve().parents[3] / "shared"))
TABLE = SHARED / "data" / "humbugdb" / "neurips_2021_zenodo_0_0_1.csv"
COUNTS = {"train": 5577, "valid": 1859, "test": 1859}

pytestmark = pytest.mark.skipif(not TABLE.is_file(), reason="HumBugDB's table is not on this machine")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[ClipEntry]:
    root = tmp_path_factory.mktemp("humbugdb")
    (root / TABLE.name).write_bytes(TABLE.read_bytes())
    # Reading a data set looks for its audio and does not open it.
    for path in replicas_clips.humbugdb_frame(TABLE)["path"]:
        (root / Path(path).name).touch()
    entries = origin("humbugdb").read(root)
    return [entry for entry in entries if isinstance(entry, ClipEntry)]


def ids_hash(ids: list[str]) -> str:
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()


def test_counts_and_classes_are_the_published_ones(clips: list[ClipEntry]) -> None:
    task = load_task("humbugdb", data=Path())
    assert Counter(clip.split for clip in clips) == task.published.items == COUNTS
    assert len({clip.label for clip in clips}) == 14
    assert {clip.label for clip in clips} == set(task.labels or ())


def test_every_clip_is_in_beans_split_under_beans_label(clips: list[ClipEntry]) -> None:
    frame = replicas_clips.humbugdb_frame(TABLE)
    parts = replicas_clips.divide(frame)
    for split in SPLITS:
        expected = {Path(path).stem: label for path, label in zip(parts[split].path, parts[split].label, strict=True)}
        assert {clip.id: clip.label for clip in clips if clip.split == split} == expected
    assert {clip.id for clip in clips if clip.low} == {Path(path).stem for path in parts["train-low"].path}


def test_the_catalogue_holds_the_hash_of_the_ids(clips: list[ClipEntry]) -> None:
    published = load_task("humbugdb", data=Path()).published.ids_sha256
    parts = replicas_clips.divide(replicas_clips.humbugdb_frame(TABLE))
    assert published == {split: ids_hash([Path(path).stem for path in parts[split].path]) for split in SPLITS}
    assert published == {split: ids_hash([clip.id for clip in clips if clip.split == split]) for split in SPLITS}


def test_the_table_is_the_one_that_is_downloaded() -> None:
    (remote,) = (remote for remote in origin("humbugdb").remotes if remote.file.endswith(".csv"))
    assert remote.file == TABLE.name
    assert remote.md5 == hashlib.md5(TABLE.read_bytes()).hexdigest()
