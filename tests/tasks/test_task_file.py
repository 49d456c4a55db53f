"""Task files: each wrong key is an error that names it; the catalogue is complete; the examples read real data."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.manifest import read_manifest
from tasks.support.errors import UserError
from tasks.task import Facts, catalogue_names, load_task

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"

CLIPS = 'name = "own"\nkind = "classification"\nclips = "clips.csv"\n'
SCAPES = (
    'name = "own"\nkind = "detection"\nwindow_width = 2\nwindow_shift = 1\n'
    'train = "a.jsonl"\nvalid = "b.jsonl"\ntest = "c.jsonl"\n'
)


def without(text: str, key: str) -> str:
    return re.sub(rf"^{key} = .*\n", "", text, flags=re.M)


WRONG = {
    "not TOML": ("name = ", "not valid TOML"),
    "empty": ("", "is empty: it needs name, kind"),
    "only a comment": ("# to do", "name: Field required; kind: Field required"),
    "no name": (without(CLIPS, "name"), "name: Field required"),
    "name with a slash": (CLIPS.replace("own", "a/b"), "name: String should match"),
    "name is a number": (CLIPS.replace('"own"', "3"), "name: Input should be a valid string"),
    "no kind": (without(CLIPS, "kind"), "kind: Field required"),
    "unknown kind": (CLIPS.replace("classification", "regression"), "kind: Input should be 'classification' or"),
    "kind is a list": (CLIPS.replace('"classification"', '["detection"]'), "kind: "),
    "unknown key": (CLIPS + "max_durations = 3\n", "max_durations: unknown key (did you mean max_duration?)"),
    "unlike any key": (CLIPS + "qqq = 3\n", "qqq: unknown key (it has name, kind, metric, "),
    "unknown fact": (CLIPS + '[facts]\nlicense = "x"\n', "facts.license: unknown key (did you mean licence?)"),
    "a fact at the top": (CLIPS + 'licence = "x"\n', "licence: unknown key (write it below the line [facts])"),
    "a key below a table": (
        CLIPS + "[facts]\nmax_duration = 3\n",
        "unknown key (write it above the first line in square",
    ),
    "all keys in a table": ("[task]\n" + CLIPS, "remove the line [task]; name and kind stand above all tables"),
    "a table as text": (CLIPS + 'facts = "x"\n', "facts: Input should be a valid dictionary"),
    "key twice": (CLIPS + CLIPS[-20:], "a key or table is there twice"),
    "table twice": (CLIPS + "[facts]\n[facts]\n", "a key or table is there twice"),
    "nested deeply": (CLIPS + "labels = " + "[" * 100_000, "is not valid TOML: it is nested too deeply"),
    "a number of 5000 digits": (CLIPS + "max_duration = " + "9" * 5000, "is not valid TOML: Exceeds the limit"),
    "zero byte": (CLIPS + "\0", "is not text: line 4 holds a byte with the value 0"),
    "name of a catalogue task": (CLIPS.replace("own", "watkins"), "name: 'watkins' is a task of the suite"),
    "name of a built-in task": (CLIPS.replace("own", "mini-calls"), "results are known by the name of their task"),
    "Windows path": (CLIPS.replace("clips.csv", "data\\clips.csv"), "write / between the names of directories"),
    "Windows path in single quotes": (
        CLIPS.replace('"clips.csv"', r"'data\clips.csv'"),
        "with backslashes as on Windows: write / between the names",
    ),
    "root": (CLIPS + 'root = "/"\n', "root: unknown key"),
    "group": (CLIPS + 'group = "core"\n', "group: only tasks that come with the suite"),
    "unknown metric": (CLIPS + 'metric = "f1"\n', "metric: Input should be 'accuracy' or 'map'"),
    "metric of the other kind": (CLIPS + 'metric = "mAP"\n', "metric for classification must be 'accuracy'"),
    "max_duration is zero": (CLIPS + "max_duration = 0\n", "max_duration: Input should be greater than 0"),
    "max_duration is infinite": (CLIPS + "max_duration = inf\n", "max_duration: Input should be a finite number"),
    "max_duration is NaN": (
        CLIPS + "max_duration = nan\n",
        "max_duration: Input should be a finite number, and it is nan",
    ),
    "max_duration is true": (CLIPS + "max_duration = true\n", "a valid number, and it is True"),
    "max_duration would overflow": (CLIPS + "max_duration = 1e305\n", "less than or equal to 86400, and it is 1e+305"),
    "a window of days": (
        SCAPES.replace("width = 2", "width = 1e6"),
        "window_width: Input should be less than or equal",
    ),
    "windows without a distance": (SCAPES.replace("shift = 1", "shift = 1e-9"), "0.0001, and it is 1e-09"),
    "labels hold a blank": (CLIPS + 'labels = ["a", " "]\n', "labels holds ' ': write text without control characters"),
    "labels hold an escape code": (CLIPS + 'labels = ["\\u001b[1m", "a"]\n', r"labels holds '\x1b[1m': write text"),
    "max_duration is text": (CLIPS + 'max_duration = "long"\n', "max_duration: Input should be a valid number"),
    "labels is text": (CLIPS + 'labels = "cat"\n', "labels: write a list of names"),
    "labels is empty": (CLIPS + "labels = []\n", "labels is empty"),
    "labels hold a list": (CLIPS + 'labels = [["cat"]]\n', r"labels.0: Input should be a valid string"),
    "label twice": (CLIPS + 'labels = ["cat", "dog", "cat"]\n', "labels holds a name twice"),
    "label twice as number and text": (CLIPS + 'labels = [1, "1"]\n', "labels holds a name twice"),
    **{
        f"clips with {key}": (CLIPS + f"{key} = {value}\n", f"a classification task has no key '{key}'")
        for key, value in [("window_width", "2"), ("window_shift", "1"), ("train", '"a"'), ("valid", '"a"')]
    },
    **{
        f"recordings with {key}": (SCAPES + f"{key} = {value}\n", f"a detection task has no key '{key}'")
        for key, value in [("clips", '"a"'), ("max_duration", "3")]
    },
    "clips without clips": (without(CLIPS, "clips"), "a classification task needs the key 'clips'"),
    **{
        f"recordings without {key}": (without(SCAPES, key), f"a detection task needs the key '{key}'")
        for key in ("window_width", "window_shift", "train", "valid", "test")
    },
    "shift is negative": (
        SCAPES.replace("window_shift = 1", "window_shift = -1"),
        "window_shift: Input should be greater",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_task_file_names_the_key(tmp_path: Path, name: str) -> None:
    text, message = WRONG[name]
    file = tmp_path / "own.toml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        load_task(str(file), data=tmp_path)
    assert message in str(caught.value)
    assert str(file) in str(caught.value), "the message does not name the file"


def test_a_task_file_that_is_not_text_is_an_error_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"own\.toml is UTF-16 text"):
        load_task(str(tmp_path / "own.toml"), data=tmp_path)


def test_a_task_file_with_the_mark_of_notepad_is_read(tmp_path: Path) -> None:
    """It was "Invalid statement (at line 1, column 1)", where nothing wrong is to be seen."""
    (tmp_path / "own.toml").write_bytes(b"\xef\xbb\xbf" + CLIPS.replace("\n", "\r\n").encode())
    assert load_task(str(tmp_path / "own.toml"), data=tmp_path).clips == Path("clips.csv")


def test_what_cannot_be_read_as_a_task_file_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(UserError, match=r"folder\.toml is a directory"):
        load_task(str(tmp_path / "folder.toml"), data=tmp_path)
    with pytest.raises(UserError, match=r"\.toml cannot be reached \(File name too long\)"):
        load_task("x" * 300 + ".toml", data=tmp_path)
    (tmp_path / "own.toml").write_text(CLIPS)

    def refuse(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"own\.toml cannot be read \(Permission denied\): check its permissions"):
        load_task(str(tmp_path / "own.toml"), data=tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [("absent.toml", r"absent\.toml does not exist"), ("mini-cals", "no task 'mini-cals'.*beans tasks list")],
)
def test_an_unknown_task_says_where_the_names_are(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_task(name, data=tmp_path)


def test_paths_start_at_the_file_or_at_data_dir(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    file = tmp_path / "own.toml"
    file.write_text(CLIPS)
    assert load_task(str(file), data=tmp_path / "x").root == tmp_path
    assert load_task(str(file), data=tmp_path, data_dir=tmp_path / "elsewhere").root == tmp_path / "elsewhere"
    with pytest.raises(UserError, match=r"--data-dir .*nowhere is not a directory"):
        load_task(str(file), data=tmp_path, data_dir=tmp_path / "nowhere")


def test_the_metric_follows_the_kind_and_its_spelling_is_free(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    for text, metric in [(CLIPS, "accuracy"), (SCAPES, "map"), (SCAPES + 'metric = "mAP"\n', "map")]:
        file.write_text(text)
        assert load_task(str(file), data=tmp_path).metric == metric


def test_integer_labels_in_the_task_file_are_text(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(CLIPS + "labels = [111, 210]\n")
    assert load_task(str(tmp_path / "own.toml"), data=tmp_path).labels == ("111", "210")


@pytest.mark.parametrize("name", catalogue_names())
def test_catalogue_tasks_state_every_fact(tmp_path: Path, name: str) -> None:
    task = load_task(name, data=tmp_path)
    assert task.name == name, "file name and task name differ"
    assert task.group != "own"
    assert task.labels, "labels are not listed"
    for fact in Facts.model_fields:
        assert getattr(task.facts, fact) not in ("", None, ()), f"the fact {fact} is not stated"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the animal recordings are not on this machine")
@pytest.mark.parametrize(
    ("name", "counts", "labels"),
    [
        ("animal-sounds", {"train": 263, "valid": 84, "test": 89}, 10),
        ("animal-soundscapes", {"train": 14 * 59, "valid": 5 * 59, "test": 5 * 59}, 8),
    ],
)
def test_the_examples_read_the_recordings_they_are_for(
    tmp_path: Path, name: str, counts: dict[str, int], labels: int
) -> None:
    task = load_task(str(ROOT / "examples" / f"{name}.toml"), data=tmp_path, data_dir=SHARED / name)
    manifest = read_manifest(task)
    assert {split: len(items) for split, items in manifest.items.items()} == counts
    assert len(manifest.labels) == labels
    assert all(item.path.is_file() for items in manifest.items.values() for item in items)


def test_the_examples_of_the_guide_work_as_they_stand(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
    clips, table, scapes, *lines = re.findall(r"```(?:toml|csv|json)\n(.*?)```", guide, flags=re.S)
    (tmp_path / "clips.toml").write_text(clips)
    (tmp_path / "clips.csv").write_text(table)
    manifest = read_manifest(load_task(str(tmp_path / "clips.toml"), data=tmp_path))
    assert manifest.labels == ("dolphin, common", "robin", "wren")

    (tmp_path / "scapes.toml").write_text(scapes)
    for split, own in zip(("train", "valid", "test"), lines, strict=True):
        (tmp_path / f"{split}.jsonl").write_text(own)
    manifest = read_manifest(load_task(str(tmp_path / "scapes.toml"), data=tmp_path))
    assert {split: len(items) for split, items in manifest.items.items()} == {"train": 2 * 59, "valid": 59, "test": 59}
    assert manifest.items["train"][4].labels == (0, 1)


def test_importing_tasks_is_quick_and_makes_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, tasks.task, tasks.manifest, tasks.windows, tasks.prepare\n"
        "print([name for name in ('numpy', 'pandas', 'torch', 'soundfile', 'evaluator', 'leaderboard') "
        "if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]", "an import that makes `beans --help` slow, or that points the wrong way"
    assert not list(tmp_path.iterdir()), "importing must not touch the disk"
