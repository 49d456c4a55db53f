"""The classification data sets, read where their authors publish them, are BEANS' items, splits and labels."""

import random
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import replicas_clips

from tasks.prepare.entries import ClipEntry
from tasks.prepare.origins import origin
from tasks.prepare.origins.cbi import split_recordists
from tasks.prepare.splits import stratified
from tasks.support.errors import UserError
from tasks.task import load_task

TASKS = replicas_clips.TASKS
# Of each task whose rows come from a table: its name, and a column it must have.
TABLES = {
    "bats": ("annotations.csv", "Emitter"),
    "cbi": ("train.csv", "recordist"),
    "dogs": ("annotations.csv", "name"),
    "esc50": ("esc50.csv", "fold"),
    "humbugdb": ("neurips_2021_zenodo_0_0_1.csv", "species"),
    "watkins": ("annotations.csv", "species"),
}
# Of each task the folder that its authors' archive holds, or "." where there are several.
INNERMOST = {
    "bats": "egyptian_fruit_bats",
    "cbi": "birdsong-recognition",
    "dogs": "dog_barks",
    "esc50": "esc50/ESC-50-master",
    "humbugdb": ".",
    "speech-commands": "speech_commands_v0.02",
    "watkins": "watkins",
}
# BEANS' lists, below its data directory.
LISTS = {
    "bats": "egyptian_fruit_bats/annotations.{}.csv",
    "cbi": "cbi/annotations.{}.csv",
    "dogs": "dogs/annotations.{}.csv",
    "esc50": "esc50/meta/esc50.{}.csv",
    "humbugdb": "HumBugDB/data/metadata/{}.csv",
    "speech-commands": "speech_commands/{}.csv",
    "watkins": "watkins/annotations.{}.csv",
}

Origin = Callable[[str], Path]


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Origin:
    """Gives the origin of a task, made once; nobody may change it."""
    made: dict[str, Path] = {}

    def get(task: str) -> Path:
        if task not in made:
            made[task] = tmp_path_factory.mktemp(task)
            replicas_clips.origin(task, made[task])
        return made[task]

    return get


def clips(task: str, root: Path) -> dict[str, ClipEntry]:
    entries = origin(task).read(root)
    assert all(isinstance(entry, ClipEntry) for entry in entries)
    found = {entry.id: entry for entry in entries if isinstance(entry, ClipEntry)}
    assert len(found) == len(entries), "two items have one id"
    assert [name.partition("~")[0] for name in found] == sorted(name.partition("~")[0] for name in found)
    return found


def listed(task: str, checkout: Path, part: str) -> list[tuple[str, str, Path]]:
    """Of every row of one of BEANS' lists its name, label and audio."""
    frame = pd.read_csv(checkout / "data" / LISTS[task].format(part), dtype=str, keep_default_na=False)
    folders = task in ("speech-commands", "watkins")
    return [
        (f"{label}/{Path(path).stem}" if folders else Path(path).stem, label, checkout / path)
        for path, label in zip(frame["path"], frame["label"], strict=True)
    ]


@pytest.mark.parametrize("task", TASKS)
def test_items_splits_labels_and_sound_are_those_of_beans(task: str, replica: Origin, tmp_path: Path) -> None:
    compare(task, replica(task), tmp_path)


def compare(task: str, source: Path, checkout: Path) -> None:
    replicas_clips.beans(task, source, checkout)
    found = clips(task, source)
    expected: dict[str, tuple[str, str, Path]] = {}
    uses: Counter[str] = Counter()
    parts = ("train", "valid", "test")
    rows = [(name, part, label, audio) for part in parts for name, label, audio in listed(task, checkout, part)]
    for name, part, label, audio in sorted(rows):
        uses[name] += 1
        expected[name if uses[name] == 1 else f"{name}~{uses[name]}"] = (part, label, audio)
    for part in parts:
        mine = {name: clip.label for name, clip in found.items() if clip.split == part}
        theirs = {name: label for name, (split, label, _) in expected.items() if split == part}
        assert theirs, f"the replica has no {part} split"
        assert mine == theirs, f"another {part} split than BEANS'"
    low = Counter((name.partition("~")[0], clip.label) for name, clip in found.items() if clip.low)
    if task == "cbi":
        assert not low, "BEANS has no few-label variant of this task"
    else:
        kept = Counter((name, label) for name, label, _ in listed(task, checkout, "train-low"))
        assert low == kept, "another few-label variant than BEANS'"
    # Other bytes, where BEANS has SoX convert them; the name tells then.
    for name, (_, _, audio) in expected.items():
        file, start, seconds = found[name].sound.file, found[name].sound.start, found[name].sound.seconds
        assert isinstance(file, Path)
        assert (start, seconds) == (0.0, None), "a piece of the file instead of all of it"
        same = file.stem == audio.stem if task in ("cbi", "dogs") else file.read_bytes() == audio.read_bytes()
        assert same, f"{name} is given the sound of another item"


@pytest.mark.parametrize("task", TASKS)
def test_labels_are_those_of_the_catalogue(task: str, replica: Origin, tmp_path: Path) -> None:
    labels = load_task(task, data=tmp_path).labels
    assert labels is not None
    assert {clip.label for clip in clips(task, replica(task)).values()} <= set(labels)


@pytest.mark.parametrize("task", TASKS)
def test_files_are_found_at_any_depth_and_without_what_a_mac_adds(task: str, replica: Origin, tmp_path: Path) -> None:
    expected = {name: (clip.split, clip.label, clip.low) for name, clip in clips(task, replica(task)).items()}
    deep = tmp_path / "my data" / "downloads" / "x"
    shutil.copytree(replica(task), deep)
    shutil.copytree(replica(task) / INNERMOST[task], tmp_path / "my data" / "__MACOSX" / "x")
    for root in (tmp_path, deep, deep / INNERMOST[task]):
        found = clips(task, root)
        assert {name: (clip.split, clip.label, clip.low) for name, clip in found.items()} == expected, root
        assert all(deep in Path(str(clip.sound.file)).parents for clip in found.values())


def test_humbugdb_is_found_in_a_clone_of_its_repository(replica: Origin, tmp_path: Path) -> None:
    shutil.copytree(replica("humbugdb"), tmp_path / "HumBugDB" / "data" / "audio")
    (tmp_path / "HumBugDB" / "data" / "metadata").mkdir()
    for table in (tmp_path / "HumBugDB" / "data" / "audio").glob("*.csv"):
        table.rename(tmp_path / "HumBugDB" / "data" / "metadata" / table.name)
    assert clips("humbugdb", tmp_path).keys() == clips("humbugdb", replica("humbugdb")).keys()


# --- names that several rows share ---


def test_a_cut_in_the_folders_of_two_species_is_an_item_of_each(replica: Origin) -> None:
    shared = [clip for clip in clips("watkins", replica("watkins")).values() if clip.id.endswith("/72010001")]
    assert {clip.id.partition("/")[0] for clip in shared} == {clip.label for clip in shared}
    assert {clip.label for clip in shared} == {species for species, _ in replicas_clips.WATKINS_SHARED}
    for clip in shared:
        assert Path(str(clip.sound.file)).parent.name == clip.label, "the cut of the other species"


def test_a_bark_in_two_rows_is_two_items(replica: Origin) -> None:
    table = pd.read_csv(only(replica("dogs"), "annotations.csv"))
    found = clips("dogs", replica("dogs"))
    assert len(found) == len(table) > table["filename"].nunique()
    pairs = [(found[name.partition("~")[0]], clip) for name, clip in found.items() if "~" in name]
    assert len(pairs) == len(table) - table["filename"].nunique()
    for first, second in pairs:
        assert (first.sound, first.label, first.recording) == (second.sound, second.label, second.recording)
    splits = [(first.split, second.split) for first, second in pairs]
    assert {one == other for one, other in splits} == {True, False}, "the replica lacks one of both cases"
    low = {(first.low, second.low) for first, second in pairs if first.split == second.split == "train"}
    assert (True, False) in low, "the replica lacks a file of which the few-label variant keeps one row"


@pytest.mark.parametrize("name", ["validation_list.txt", "testing_list.txt"])
def test_a_line_twice_in_a_list_of_speech_commands_counts_once(name: str, broken: Origin) -> None:
    root = broken("speech-commands")
    before, file = clips("speech-commands", root), only(root, name)
    lines = file.read_text().splitlines()
    assert len(lines) > len(set(lines)), "the replica lacks a line twice"
    assert sum(clip.split != "train" for clip in before.values()) == 60
    file.write_text("\n".join(lines * 2))
    assert clips("speech-commands", root) == before


def test_a_name_in_both_lists_of_speech_commands_is_in_both_splits_as_in_beans(broken: Origin, tmp_path: Path) -> None:
    root = broken("speech-commands")
    name = only(root, "testing_list.txt").read_text().splitlines()[0]
    with only(root, "validation_list.txt").open("a") as file:
        file.write(f"{name}\n")
    compare("speech-commands", root, tmp_path / "checkout")
    found, key = clips("speech-commands", root), name.removesuffix(".wav")
    assert [found[key].split, found[f"{key}~2"].split] == ["test", "valid"]


# --- what is not kept together, and what is ---


def test_recordings_are_source_clips_speakers_or_the_clips_themselves(replica: Origin) -> None:
    esc50 = clips("esc50", replica("esc50"))
    assert esc50["1-100100-A-0"].recording == esc50["1-100100-B-0"].recording == "1-100100"
    speech = clips("speech-commands", replica("speech-commands"))
    assert {clip.recording for clip in speech.values() if clip.id.endswith("/00000000_nohash_0")} == {"00000000"}
    for clip in clips("watkins", replica("watkins")).values():
        assert clip.recording == clip.id
    for task in ("cbi", "esc50", "speech-commands"):
        splits: dict[str, set[str]] = {}
        for clip in clips(task, replica(task)).values():
            splits.setdefault(clip.recording, set()).add(clip.split)
        assert all(len(split) == 1 for split in splits.values()), f"{task}: a recording is in two splits"


def test_no_recordist_is_in_two_splits(replica: Origin) -> None:
    table = pd.read_csv(replica("cbi") / "birdsong-recognition" / "train.csv", dtype=str, keep_default_na=False)
    found = clips("cbi", replica("cbi"))
    splits: dict[str, set[str]] = {}
    for recordist, file in zip(table["recordist"], table["filename"], strict=True):
        splits.setdefault(recordist, set()).add(found[Path(file).stem].split)
    assert "" in splits and "None" in splits, "the replica lacks what this is about"
    assert all(len(split) == 1 for split in splits.values())


@pytest.mark.parametrize("count", [1, 2, 5, 30, 997])
def test_recordists_are_shuffled_as_the_global_generator_would_and_it_is_left_alone(count: int) -> None:
    names = [f"recordist {i}" for i in range(count)]
    state = random.getstate()
    found = split_recordists([*names, *names[::-1]])
    assert random.getstate() == state, "other users of the generator draw other numbers now"

    random.seed(42)
    shuffled = np.array(names, dtype=object)
    random.shuffle(shuffled)
    random.setstate(state)
    first, second = int(0.6 * count), int(0.8 * count)
    expected = {"train": shuffled[:first], "valid": shuffled[first:second], "test": shuffled[second:]}
    for split, members in expected.items():
        assert {name for name, value in found.items() if value == split} == set(members)


@pytest.mark.parametrize("kind", [int, str])
def test_the_random_split_is_scikit_learns_of_the_table_in_its_order_and_type(kind: type) -> None:
    # As numbers 9 < 10 < 100, as text "10" < "100" < "9": what is drawn depends on it.
    labels = [kind(label) for label in [9] * 31 + [10] * 23 + [100] * 17]
    random.Random(1).shuffle(labels)
    frame = pd.DataFrame({"path": [str(i) for i in range(len(labels))], "label": labels})
    # Rows that were left out before leave gaps in the index.
    frame = frame.drop(index=[3, 4, 40])
    splits, low = stratified(Path("table.csv"), frame["label"])
    for part, expected in replicas_clips.divide(frame).items():
        rows = low if part == "train-low" else [split == part for split in splits]
        assert list(frame["path"][rows]) == list(expected["path"])


# --- what is wrong is said in one sentence ---


def refusal(task: str, root: Path) -> str:
    with pytest.raises(UserError) as caught:
        origin(task).read(root)
    message = str(caught.value)
    assert "\n" not in message.strip(), "more than one sentence"
    return message


@pytest.fixture
def broken(replica: Origin, tmp_path: Path) -> Origin:
    """Gives a copy of a task's origin to break."""

    def get(task: str) -> Path:
        return shutil.copytree(replica(task), tmp_path / "source")

    return get


def only(root: Path, name: str) -> Path:
    (file,) = root.rglob(name)
    return file


@pytest.mark.parametrize("task", TASKS)
def test_missing_audio_is_counted_and_named(task: str, broken: Origin) -> None:
    root = broken(task)
    # Of Speech Commands nothing tells that train audio is missing.
    entries = [clip for clip in clips(task, root).values() if task != "speech-commands" or clip.split != "train"]
    # Several items may be one file's.
    files = list(dict.fromkeys(Path(str(clip.sound.file)) for clip in entries))
    for file in files[:5]:
        file.unlink()
    message = refusal(task, root)
    said = re.search(r"^5 of the (\d+) audio files that .* are missing, such as ", message)
    assert said
    if task != "speech-commands":
        assert int(said[1]) == len(files), "a file that two rows name is counted twice"
    assert sum(message.count(file.name) for file in files[:5]) == 3, "not three of them"
    assert "download" in message


@pytest.mark.parametrize("task", TABLES)
def test_a_missing_table_says_where_to_point(task: str, broken: Origin) -> None:
    root, (name, _) = broken(task), TABLES[task]
    only(root, name).unlink()
    assert refusal(task, root).startswith(f"There is no {name} in {root}: point --source at ")


@pytest.mark.parametrize("task", TABLES)
def test_a_missing_column_is_named(task: str, broken: Origin) -> None:
    root, (name, column) = broken(task), TABLES[task]
    file = only(root, name)
    pd.read_csv(file).drop(columns=column).to_csv(file, index=False)
    assert refusal(task, root).startswith(f"{file} has no column '{column}' but '")


@pytest.mark.parametrize("task", [task for task in TABLES if task not in ("cbi", "humbugdb")])
def test_a_missing_value_is_named_with_its_line(task: str, broken: Origin) -> None:
    root, (name, column) = broken(task), TABLES[task]
    file = only(root, name)
    frame = pd.read_csv(file, dtype=str)
    frame.loc[7, column] = None
    frame.to_csv(file, index=False)
    assert refusal(task, root).startswith(f"{file}, line 9: '{column}' is missing")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'a,b\n"1,2\n', b"a,b\n1,2\n1,2,3,4\n"])
def test_a_table_that_is_no_csv_is_named(content: bytes, broken: Origin) -> None:
    root = broken("bats")
    file = only(root, "annotations.csv")
    file.write_bytes(content)
    assert refusal("bats", root).startswith(f"{file} ")


@pytest.mark.parametrize("task", TABLES)
def test_two_data_sets_in_one_place_are_not_mixed(task: str, broken: Origin) -> None:
    root = broken(task)
    shutil.copytree(root, root.parent / "source-2")
    message = refusal(task, root.parent)
    assert message.startswith("Both ")
    assert "source-2" in message
    assert "point --source at" in message


@pytest.mark.parametrize("task", ["watkins", "bats", "dogs"])
def test_tables_of_one_name_are_told_apart_by_their_columns(task: str, replica: Origin, tmp_path: Path) -> None:
    for other in ("watkins", "bats", "dogs"):
        shutil.copytree(replica(other), tmp_path / other)
    assert clips(task, tmp_path).keys() == clips(task, replica(task)).keys()


def test_wavs_of_another_data_set_are_not_taken_for_mosquitoes(broken: Origin) -> None:
    root = broken("humbugdb")
    shutil.copytree(root / "humbugdb_neurips_2021_2", root / "egyptian_fruit_bats" / "audio")
    message = refusal("humbugdb", root)
    assert re.match(r"Both .*egyptian_fruit_bats.* and .*humbugdb_neurips_2021_2.* may be meant", message)


def test_too_few_clips_of_a_label_are_not_divided(broken: Origin) -> None:
    root = broken("dogs")
    file = only(root, "annotations.csv")
    frame = pd.read_csv(file)
    pd.concat([frame[frame["name"] != "Mac"], frame[frame["name"] == "Mac"][:1]]).to_csv(file, index=False)
    assert refusal("dogs", root).startswith(f"{file} cannot be divided as BEANS does (")


def test_a_fold_that_esc50_does_not_have_is_refused(broken: Origin) -> None:
    root = broken("esc50")
    file = only(root, "esc50.csv")
    frame = pd.read_csv(file)
    frame.loc[2, "fold"] = 6
    frame.to_csv(file, index=False)
    assert refusal("esc50", root).startswith(f"{file}: fold 6 is none of 1 to 5")


@pytest.mark.parametrize("name", ["validation_list.txt", "testing_list.txt"])
def test_speech_commands_needs_both_lists_as_text_and_once(name: str, broken: Origin) -> None:
    root = broken("speech-commands")
    shutil.copytree(root, root.parent / "source-2")
    assert refusal("speech-commands", root.parent).startswith("Both ")
    file = only(root, name)
    file.write_bytes(b"\xff\xfe\x00")
    assert refusal("speech-commands", root).startswith(f"{file} cannot be read as text")
    file.unlink()
    assert refusal("speech-commands", root).startswith("There is no validation_list.txt with a testing_list.txt")


# --- what the catalogue says ---


@pytest.mark.parametrize("task", TASKS)
def test_the_catalogue_counts_what_the_rules_give_and_bounds_the_disk(task: str, tmp_path: Path) -> None:
    facts, items = load_task(task, data=tmp_path).facts, load_task(task, data=tmp_path).published.items
    assert list(items) == ["train", "valid", "test"]
    assert " / ".join(str(count) for count in items.values()) in facts.split_rule, "the text says another count"
    total = sum(items.values())
    if facts.split_rule.startswith("at random"):
        rest = -(-total * 2 // 5)  # scikit-learn rounds the test part up
        test = -(-rest // 2)
        assert items == {"train": total - rest, "valid": rest - test, "test": test}
    seconds, rate = load_task(task, data=tmp_path).max_duration, facts.native_rate
    assert seconds is not None and rate is not None
    bound = re.search(r"prepared at most ([\d.]+) GB", facts.size)
    assert bound
    assert 1.0 <= float(bound[1]) * 1e9 / (2 * total * seconds * rate) < 1.1, "not what that many clips can take"
