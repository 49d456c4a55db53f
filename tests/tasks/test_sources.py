"""Each task source and each fact of a task has one home; the documents and the help repeat it from there."""

import ast
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from tasks.prepare import prepare, why_not_prepared
from tasks.prepare.entries import ids_of
from tasks.prepare.origins import ORIGINS
from tasks.prepare.source import Source
from tasks.prepare.sources import SOURCES, beans, huggingface
from tasks.prepare.state import MARK
from tasks.support.errors import UserError
from tasks.task import Task, catalogue_names, load_task

ROOT = Path(__file__).parents[2]
# What each source reads of a task file.
TABLES: dict[str, type[BaseModel]] = {"beans": beans.Checkout, "huggingface": huggingface.Hub}

OWN = 'name = "mine"\nkind = "classification"\nclips = "clips.csv"\n[prepare]\nfrom = "beans"\n'
CHECKOUT = '[prepare.beans]\nfolder = "{}"\nlists = "{{}}.csv"\n'


def catalogue() -> list[Task]:
    return [load_task(name, data=Path("data")) for name in catalogue_names()]


def source(name: str) -> Source:
    found = SOURCES.get(name)
    assert isinstance(found, Source)
    return found


# --- the catalogue ---


def test_the_twelve_have_three_sources_and_the_built_in_ones_their_generator() -> None:
    for task in catalogue():
        assert task.prepare is not None
        offered = [name for name in SOURCES.names() if source(name).has(task)]
        expected = ["generated"] if task.group == "builtin" else ["beans", "huggingface", "origin"]
        assert offered == expected, task.name
        assert task.prepare.source in offered, f"{task.name} is prepared from a source that does not have it"


def test_every_table_of_a_source_is_one_that_the_source_reads() -> None:
    """A slip in a table's name would take the task out of that source in silence."""
    for task in catalogue():
        assert task.prepare is not None
        tables = set(task.prepare.__pydantic_extra__)
        assert tables <= set(TABLES), f"{task.name} has tables that no source reads"
        for name in tables:
            task.prepare.table(name, TABLES[name])


def test_every_origin_is_a_task_of_the_catalogue() -> None:
    assert set(ORIGINS.names()) == {task.name for task in catalogue() if task.benchmark}


@pytest.mark.parametrize(
    ("task", "path", "label", "item", "recording"),
    [
        ("watkins", "a/Walrus/61025A.wav", "Walrus", "Walrus/61025A", "Walrus/61025A"),
        ("speech-commands", "bed/0a7c2a8d_nohash_1.wav", "bed", "bed/0a7c2a8d_nohash_1", "0a7c2a8d"),
        ("speech-commands", "bed/other.wav", "bed", "bed/other", "other"),
        ("esc50", "audio/1-100032-A-0.wav", "0", "1-100032-A-0", "1-100032"),
        ("hainan-gibbons", "wav/HGSM3A_0+1.5_2016.007.wav", "", "HGSM3A_0+1.5_2016.007", "HGSM3A_0+1.5_2016"),
        ("dcase", "a.b.000.wav", "", "a.b.000", "a.b"),
        ("humbugdb", "x/53.wav", "others", "53", "53"),
        ("rfcx", "00204008d.flac", "", "00204008d", "00204008d"),
    ],
)
def test_ids_and_recordings_follow_from_the_names_of_the_files(
    task: str, path: str, label: str, item: str, recording: str
) -> None:
    """Two copies with other ids have other split hashes; other recordings make another confidence interval."""
    assert ids_of(task).item(path, label) == item
    assert ids_of(task).recording_of(item) == recording


def strings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every string constant that is no docstring, with its line."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body
        if isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


def test_no_code_names_a_task_of_the_catalogue() -> None:
    """A rule for one task that is written into code is found by nobody who adds or reads a task file.

    Commands and file names as examples are no rules. The module that reads one data set names that one, and the
    generator its two tasks.
    """
    folders = {name: name.replace("-", "_") for name in catalogue_names()}
    named = re.compile(rf"(?<![\w-])({'|'.join({*folders, *folders.values()})})(?![\w-])")
    found = []
    for package in ("tasks", "leaderboard", "evaluator"):
        for file in sorted((ROOT / package).rglob("*.py")):
            if file.parent.name == "synthetic":
                continue
            for line, text in strings(ast.parse(file.read_text(encoding="utf-8"))):
                names = set(named.findall(text)) - ({file.stem} if file.parent.name == "origins" else set())
                names -= {name for name in names if file.parent.name == "origins" and folders.get(name) == file.stem}
                if names and "beans " not in text and "such as" not in text:
                    found.append(f"{file.relative_to(ROOT)}, line {line}: {text!r}")
    assert not found, found


# --- documents and help ---


def test_the_guides_table_of_sources_is_the_registrys() -> None:
    guide = (ROOT / "docs/tasks.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `([a-z-]+)` \| (.*) \| (.*) \|$", guide.partition("| `--from` |")[2].partition("\n\n")[0], re.M
    )
    assert rows == [(name, source(name).help, source(name).needs) for name in SOURCES.names()]


def test_the_guides_table_of_tasks_is_the_catalogues() -> None:
    guide = (ROOT / "docs/tasks.md").read_text(encoding="utf-8").partition("## The twelve BEANS tasks")[2]
    rows = dict(re.findall(r"^\| `([a-z0-9-]+)`.*?\|.*?\| (.*?) \|", guide.partition("\n### ")[0], re.M))
    tasks = {task.name: task for task in catalogue() if task.benchmark}
    assert set(rows) == set(tasks)
    for name, task in tasks.items():
        counts = " / ".join(str(count) for count in task.published.items.values())
        assert rows[name] == f"{counts} {'clips' if task.kind == 'classification' else 'windows'}"


def test_the_help_of_prepare_lists_every_source(beans: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = beans("tasks", "prepare", "--help")
    words = " ".join(re.sub(r"[│\s]+", " ", out).split())
    assert code == 0
    for name in SOURCES.names():
        assert f"{name}: {source(name).help}" in words


# --- tasks of the user's own that a source has ---


def checkout(root: Path, folder: str, label: str) -> Path:
    for split in ("train", "valid", "test"):
        rows = [f"data/{folder}/{split}{number}.wav,{label}{number}" for number in (1, 2)]
        (root / "data" / folder).mkdir(parents=True, exist_ok=True)
        (root / "data" / folder / f"{split}.csv").write_text("\n".join(["path,label", *rows, ""]))
        for number in (1, 2):
            (root / "data" / folder / f"{split}{number}.wav").write_bytes(b"RIFF")
    return root


def test_a_task_file_of_the_users_own_names_its_source_and_its_data_are_kept_apart(tmp_path: Path) -> None:
    file, data = tmp_path / "mine.toml", tmp_path / "data"
    (tmp_path / "clips.csv").write_text("the user's own\n")
    file.write_text(OWN + CHECKOUT.format("birds"))
    task = load_task(str(file), data=data)
    assert why_not_prepared(task) == f"not prepared: run `beans tasks prepare {file}`"
    root = checkout(tmp_path / "checkout", "birds", "wren ")
    assert prepare(str(file), data, source=root, in_place=True) is True
    assert prepare(str(file), data, source=root, in_place=True) is False
    assert task.root == data / "own" / "mine" and "wren 2" in (task.root / "clips.csv").read_text()
    assert (tmp_path / "clips.csv").read_text() == "the user's own\n", "a file beside the task file was written over"


def test_another_task_file_of_the_same_name_does_not_take_the_first_ones_data(tmp_path: Path) -> None:
    data, root = tmp_path / "data", checkout(checkout(tmp_path / "checkout", "birds", "wren "), "bats", "bat ")
    files = [tmp_path / "a.toml", tmp_path / "b.toml"]
    for file, folder in zip(files, ("birds", "bats"), strict=True):
        file.write_text(OWN + CHECKOUT.format(folder))
    prepare(str(files[0]), data, source=root, in_place=True)
    first, second = (load_task(str(file), data=data) for file in files)
    assert why_not_prepared(first) is None
    assert "another table [prepare]: run" in (why_not_prepared(second) or "")
    assert prepare(str(files[1]), data, source=root, in_place=True) is True
    assert "bat 1" in (data / "own/mine/clips.csv").read_text() and why_not_prepared(first) is not None


def test_a_task_stays_prepared_when_the_package_of_its_source_is_gone(tmp_path: Path) -> None:
    data, file = tmp_path / "data", tmp_path / "mine.toml"
    file.write_text(OWN + CHECKOUT.format("birds"))
    prepare(str(file), data, source=checkout(tmp_path / "checkout", "birds", "wren "), in_place=True)
    task = load_task(str(file), data=data)
    mark = json.loads((task.root / MARK).read_text())
    (task.root / MARK).write_text(json.dumps({**mark, "copy": "somebody-elses"}))
    assert why_not_prepared(task) is None
    shutil.rmtree(tmp_path / "checkout")
    assert "is not there now" in (why_not_prepared(task) or "")


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        (
            "",
            {"copy": "nobody"},
            "^There is no task source 'nobody': choose from beans, generated, huggingface, origin",
        ),
        ("", {"copy": "origin"}, r"^Task mine is in no source: --from origin does not have it\.$"),
        (
            "[prepare.beans]\nfolder = 3\n",
            {"source": Path()},
            r"^The table \[prepare.beans\] of .*folder: Input should ",
        ),
        (
            CHECKOUT.format("birds"),
            {"copy": "generated"},
            r"is read from a finished BEANS checkout \(--from beans\): --f",
        ),
    ],
)
def test_a_source_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, text: str, options: dict[str, object], sentence: str
) -> None:
    (tmp_path / "mine.toml").write_text(OWN + text)
    with pytest.raises(UserError, match=sentence):
        prepare(str(tmp_path / "mine.toml"), tmp_path / "data", **options)  # type: ignore[arg-type]


def test_a_task_file_without_a_source_needs_no_preparation(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(OWN.partition("[prepare]")[0])
    with pytest.raises(UserError, match=r"mine.toml is your own task file without a table \[prepare\]: its audio is"):
        prepare(str(tmp_path / "mine.toml"), tmp_path / "data")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (OWN.replace('from = "beans"', ""), "prepare.from: Field required"),
        (OWN + "copy = 3\n", "prepare.copy: Input should be a valid dictionary"),
        (OWN.replace("clips.csv", "../clips.csv"), "clips is written by `beans tasks prepare`: give a name without a"),
        (OWN + "[ids]\nrecording = '(a'\n", "ids.recording: '(a' is not a regular expression"),
        (OWN + "[ids]\nrecording = 'a'\n", "ids.recording: 'a' has 0 groups and not one"),
        (OWN + "[ids]\nlabels = true\n", "ids.labels: unknown key"),
        ('file = "x"\n' + OWN, "file: unknown key"),
    ],
)
def test_a_wrong_table_of_a_task_file_names_the_key(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(UserError) as caught:
        load_task(str(tmp_path / "mine.toml"), data=tmp_path)
    assert message in str(caught.value)
