"""Preparation is whole or not at all: killed, doubled, out of space or outdated, no half-made task is ever read."""

import os
import signal
from pathlib import Path

import pytest
from quick_processes import QuickProcess

from tasks.manifest import read_manifest
from tasks.prepare import is_prepared, prepare, why_not_prepared
from tasks.prepare.source import Generated, Progress
from tasks.prepare.state import MARK
from tasks.prepare.synthetic import SOURCES
from tasks.prepare.synthetic import plans as synthetic
from tasks.support.errors import UserError
from tasks.task import Split, Task, load_task

# Each soundscape of the built-in task is a minute long and takes as much work as any other: five show what 22 do.
FEW: dict[Split, int] = {"train": 3, "valid": 1, "test": 1}
KILLED_AT = 3


def prepare_few(data: Path, killed: bool) -> None:
    """Prepare a smaller mini-soundscape and print whether there was something to do."""
    synthetic.SCAPES = FEW

    def report(what: str, done: float, total: float, unit: str) -> None:
        if killed and done == KILLED_AT:
            os.kill(os.getpid(), signal.SIGKILL)

    print(prepare("mini-soundscape", data, report))


def start(data: Path, *, killed: bool = False) -> QuickProcess:
    return QuickProcess(data.parent, prepare_few, data, killed, environment={})


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the smaller mini-soundscape is when nothing disturbs its preparation."""
    data = tmp_path_factory.mktemp("few") / "data"
    code, _, errors = start(data).end()
    assert code == 0, errors
    return contents(data / "mini-soundscape")


def contents(directory: Path) -> dict[str, bytes]:
    return {str(file.relative_to(directory)): file.read_bytes() for file in directory.rglob("*") if file.is_file()}


def entries(data: Path) -> set[str]:
    return {entry.name for entry in data.iterdir()}


def small(directory: Path, progress: Progress) -> None:
    progress(0, 1)
    (directory / "clips.csv").write_text("path,label,split\n")
    progress(1, 1)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "mini-calls", Generated("1", 0, small))


def test_built_in_tasks_are_complete(prepared: Path) -> None:
    expected = {"mini-calls": (300, 100, 100), "mini-soundscape": (12 * 59, 5 * 59, 5 * 59)}
    for name, counts in expected.items():
        manifest = read_manifest(load_task(name, data=prepared))
        assert tuple(len(items) for items in manifest.items.values()) == counts
        assert all(item.path.is_file() for items in manifest.items.values() for item in items)
    assert prepare("mini-calls", prepared) is False, "prepared again although it was there"


@pytest.mark.slow
def test_a_killed_preparation_leaves_nothing_and_the_next_makes_the_same_bytes(
    few: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    code, _, errors = start(data, killed=True).end()
    assert code == -signal.SIGKILL, errors
    assert (data / ".mini-soundscape.partial" / "audio" / f"scape_{KILLED_AT - 1:02}.flac").is_file(), (
        "not killed midway"
    )
    assert not is_prepared(load_task("mini-soundscape", data=data)), "a half-made task counts as prepared"

    monkeypatch.setattr(synthetic, "SCAPES", FEW)
    steps: list[tuple[float, float]] = []
    assert prepare("mini-soundscape", data, lambda what, done, total, unit: steps.append((done, total))) is True
    assert contents(data / "mini-soundscape") == few
    assert entries(data) == {"mini-soundscape", ".mini-soundscape.lock"}, "the killed run's files are still there"
    assert steps == [(done, 5) for done in range(6)]


def test_two_processes_at_once_prepare_it_once(tmp_path: Path, few: dict[str, bytes]) -> None:
    data = tmp_path / "data"
    both = [start(data) for _ in range(2)]
    ended = [process.end() for process in both]
    assert sorted(output for _, output, _ in ended) == ["False\n", "True\n"], ended
    assert contents(data / "mini-soundscape") == few


def test_an_unprepared_task_says_what_to_run(tmp_path: Path) -> None:
    task = load_task("mini-calls", data=tmp_path)
    assert why_not_prepared(task) == "not prepared: run `beans tasks prepare mini-calls`"
    assert not is_prepared(task)
    with pytest.raises(UserError, match="run `beans tasks prepare mini-calls`"):
        read_manifest(task)


def test_an_own_task_is_prepared_when_its_files_exist(tmp_path: Path) -> None:
    task = Task(name="own", kind="classification", metric="accuracy", clips=Path("clips.csv"), root=tmp_path)
    assert (
        why_not_prepared(task)
        == f"{tmp_path / 'clips.csv'} does not exist: check the paths in the task file and --data-dir."
    )
    (tmp_path / "clips.csv").touch()
    assert is_prepared(task)


@pytest.mark.usefixtures("quick")
def test_data_of_another_version_is_made_anew(tmp_path: Path) -> None:
    assert prepare("mini-calls", tmp_path)
    mark = tmp_path / "mini-calls" / MARK
    mark.write_text(mark.read_text().replace('"1"', '"0"'))
    (tmp_path / "mini-calls" / "old.flac").touch()
    reason = why_not_prepared(load_task("mini-calls", data=tmp_path))
    assert reason == "prepared by another version of this suite: run `beans tasks prepare mini-calls`"
    assert prepare("mini-calls", tmp_path) is True
    assert entries(tmp_path) == {"mini-calls", ".mini-calls.lock"}
    assert entries(tmp_path / "mini-calls") == {"clips.csv", MARK}, "files of the older version were kept"


@pytest.mark.usefixtures("quick")
def test_a_directory_without_the_mark_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "mini-calls").mkdir()
    (tmp_path / "mini-calls" / "clips.csv").touch()
    assert not is_prepared(load_task("mini-calls", data=tmp_path)), "files somebody copied by hand count as prepared"
    assert prepare("mini-calls", tmp_path) is True


def test_an_interrupted_preparation_cleans_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "mini-calls", Generated("1", 0, small))

    def interrupt(what: str, done: float, total: float, unit: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare("mini-calls", tmp_path, interrupt)
    assert entries(tmp_path) == {".mini-calls.lock"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_disk_that_fills_up_is_one_sentence_with_the_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_to_a_full_disk(directory: Path, progress: Progress) -> None:
        small(directory, progress)
        Path("/dev/full").write_bytes(bytes(10))

    monkeypatch.setitem(SOURCES, "mini-calls", Generated("1", 55_000_000, write_to_a_full_disk))
    with pytest.raises(UserError, match=r"disk of .* is full: task mini-calls takes 55 MB on the disk"):
        prepare("mini-calls", tmp_path)
    assert entries(tmp_path) == {".mini-calls.lock"}, "the half-made task still takes up the full disk"


def test_too_little_space_is_said_before_work_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(directory: Path, progress: Progress) -> None:
        raise AssertionError("began although the result does not fit")

    monkeypatch.setitem(SOURCES, "mini-calls", Generated("1", 10**18, never))
    with pytest.raises(UserError, match="is full: task mini-calls takes"):
        prepare("mini-calls", tmp_path)


def test_a_data_directory_that_cannot_be_made_is_an_error_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="Task mini-calls cannot be prepared in"):
        prepare("mini-calls", tmp_path / "file" / "data")


@pytest.mark.parametrize("name", ["nonsense", "own.toml"])
def test_only_tasks_of_the_catalogue_are_prepared(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError):
        prepare(name, tmp_path)
