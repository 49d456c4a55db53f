"""One list of columns: an entry that is added to it is everywhere, without a change of any other file."""

import csv
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from factory import make_record
from profile_factory import make_profile
from streamlit.testing.v1 import AppTest

from leaderboard.database.profiles import publish
from leaderboard.database.store import Store
from leaderboard.ranking import columns, formats
from leaderboard.ranking.boards import Board, boards
from leaderboard.ranking.column import Column, Shown, TaskColumn
from leaderboard.ranking.columns import COLUMNS, columns_of, sort_names, sort_rows
from leaderboard.records.files import write_record
from leaderboard.records.result import Result, Value
from tasks.support.home import Home

APP = Path(__file__).parents[2] / "leaderboard" / "web" / "app.py"
TASKS = {"mini-calls": "accuracy", "mini-soundscape": "map"}
# Name, parameters and score each give another order than either of the new columns.
SIZES = {"big": 400_000_000, "small": 9_000_000, "middle": 90_000_000}
ROOT = Column(
    key="root",
    label="Root, 1 % off",
    help="the square root of the number of parameters",
    value=lambda row: None if row.submission == "middle" else row.parameters**0.5,
    file_type=float,
    sort="smallest first",
)
OFF = TaskColumn(
    key="off",
    label="Off",
    help="the distance of the score from 0.6",
    value=lambda cell: None if cell.result is None else round(abs(cell.result.test - 0.6), 6),
    text=lambda cell: Shown("–", empty=True) if cell.result is None else Shown(f"{cell.result.test:.1f} is off"),
    file_type=float,
    sort="largest first",
)

# Run in the copy of the suite: the commands one after another, with what they print, then the page.
COMMANDS = """
import contextlib, io, json, sys
from pathlib import Path

import leaderboard
from evaluator.cli import console, main
from streamlit.testing.v1 import AppTest

console._LOG_WIDTH = 300
printed = []
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["beans", *arguments]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            main()
        except SystemExit as stop:
            assert not stop.code, arguments
    printed.append(out.getvalue())
page = AppTest.from_file(str(Path(leaderboard.__file__).parent / "web" / "app.py"), default_timeout=60)
page.query_params["sort"] = "task:mini-calls.epoch"
page.run()
assert not page.exception
(table,) = page.get("bidi_component")
print(json.dumps([*printed, table.proto.json]))
"""

Beans = Callable[..., tuple[int, str, str]]


@pytest.fixture
def filled(own_home: Path) -> Store:
    """Three submissions on the two built-in tasks; the best is "middle"."""
    store = Store(Home.from_environment().database_url)
    for number, (name, size) in enumerate(SIZES.items()):
        for task, metric in TASKS.items():
            store.publish(make_record(name, task, metric=metric, test=0.3 + number / 3, parameters=size))
    return store


@pytest.fixture
def added(filled: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """`filled`, with two more entries in the list."""
    monkeypatch.setattr(columns, "COLUMNS", (*COLUMNS[:6], ROOT, *COLUMNS[6:], OFF))
    return filled


def documented(first: str, last: str) -> str:
    """The code of docs/extending.md from one line to another. A reader copies it."""
    lines = (APP.parents[2] / "docs" / "extending.md").read_text(encoding="utf-8").splitlines()
    start = lines.index(f"    {first}")
    return textwrap.dedent("\n".join(lines[start : lines.index(f"    {last}", start) + 1]))


def drawn(**query: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The board's table as the browser gets it: its headers by label, and its rows with their cells by label."""
    page = AppTest.from_file(str(APP), default_timeout=60)
    for name, value in query.items():
        page.query_params[name] = value
    page.run()
    assert not page.exception
    (table,) = page.get("bidi_component")
    return parsed(table.proto.json)


def parsed(drawn: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The headers by label, and the rows with their cells by label."""
    data = json.loads(drawn)
    labels = [header["label"] for header in data["columns"]]
    rows = [dict(zip(labels, row["cells"], strict=True)) for row in json.loads(data["rows"])]
    return {header["label"]: header for header in data["columns"]}, rows


def in_terminal(out: str) -> list[dict[str, str]]:
    """The rows of the table in the terminal, with their cells by label."""
    header, *rows = (
        [cell.strip() for cell in line.split(line[:1])[1:-1]] for line in out.splitlines() if line[:1] in "┃│"
    )
    return [dict(zip(header, row, strict=True)) for row in rows]


def in_latex(path: Path) -> list[dict[str, str]]:
    """The rows of the LaTeX table, with their cells by label."""
    body = path.read_text(encoding="utf-8").split(r"\toprule")[1].split(r"\bottomrule")[0]
    header, _, _, *rows = [
        [cell.strip() for cell in line.removesuffix(r"\\").replace(r"\&", "and").split("&")]
        for line in body.strip().splitlines()
    ]
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_page_has_an_added_column_and_sorts_by_it_from_the_address(added: Store) -> None:
    headers, rows = drawn(sort="root")
    header = headers[ROOT.label]
    assert (header["title"], header["sort"], header["order"]) == (ROOT.help, "root", "ascending")
    shown = {row["Submission"]["text"]: row[ROOT.label]["text"] for row in rows}
    assert list(shown.items()) == [("small", "3000.000"), ("big", "20000.000"), ("middle", "–")]
    assert list(headers).index(ROOT.label) == list(headers).index("Mean") + 1, "a column stands where its entry does"
    _, backwards = drawn(sort="-root")
    assert [row["Submission"]["text"] for row in backwards] == ["big", "small", "middle"], "no value stays below"


def test_page_has_a_column_of_each_task_and_sorts_by_it_from_the_address(added: Store) -> None:
    headers, rows = drawn(sort="task:mini-calls.off")
    assert [label for label in headers if label.endswith("Off")] == ["mini-calls Off", "mini-soundscape Off"]
    assert headers["mini-calls Off"]["title"] == OFF.help
    assert [(row["Submission"]["text"], row["mini-calls Off"]["text"]) for row in rows] == [
        ("middle", "1.0 is off"),
        ("big", "0.3 is off"),
        ("small", "0.6 is off"),
    ]


def test_terminal_has_added_columns(added: Store, beans: Beans, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluator.cli.console._LOG_WIDTH", 300)
    code, out, _ = beans("leaderboard", "show")
    rows = in_terminal(out)
    assert code == 0 and len(rows) == 3
    found = {row["Submission"]: (row[ROOT.label], row["mini-calls Off"], row["mini-soundscape Off"]) for row in rows}
    assert found["big"] == ("20000.000", "0.3 is off", "0.3 is off") and found["middle"][0] == "–"


def test_json_has_added_columns_in_rows_and_cells(added: Store, beans: Beans) -> None:
    code, out, _ = beans("leaderboard", "show", "--json")
    (board,) = json.loads(out)
    rows = {row["submission"]: row for row in board["rows"]}
    assert code == 0 and [rows[name]["root"] for name in SIZES] == [20000.0, 3000.0, None]
    assert [cell["off"] for cell in rows["big"]["cells"]] == [0.3, 0.3]
    # What a row and a cell hold stands beside the columns, also where no column has it.
    assert rows["big"]["standing_reason"] and rows["big"]["cells"][0]["result"]["submission"] == "big"


@pytest.mark.parametrize(
    ("sort", "names"),
    [("root", ["small", "big", "middle"]), ("task:mini-calls.off", ["middle", "big", "small"])],
)
def test_files_have_added_columns_in_the_order_of_the_address(
    added: Store, beans: Beans, tmp_path: Path, sort: str, names: list[str]
) -> None:
    for kind in ("csv", "parquet", "tex"):
        code, _, complaint = beans("leaderboard", "export", tmp_path / f"board.{kind}", "--view", f"sort={sort}")
        assert code == 0, complaint
    lines = list(csv.DictReader((tmp_path / "board.csv").open(encoding="utf-8", newline="")))
    assert [line["submission"] for line in lines] == names
    by_name = {line["submission"]: line for line in lines}
    assert (by_name["big"]["root"], by_name["middle"]["root"]) == ("20000.0", "")
    assert by_name["big"]["mini-soundscape.off"] == "0.3"

    table = pq.read_table(tmp_path / "board.parquet")
    assert (table.schema.field("root").type, table.schema.field("mini-calls.off").type) == (pa.float64(), pa.float64())
    assert {row["submission"]: row["root"] for row in table.to_pylist()}["middle"] is None

    table_rows = in_latex(tmp_path / "board.tex")
    of_tasks = ["mini-calls", "mini-calls Off", "mini-soundscape", "mini-soundscape Off"]
    assert list(table_rows[0]) == ["Rank", "Submission", "Mean", r"Root, 1 \% off", *of_tasks, "Parameters"]
    assert [row["Submission"] for row in table_rows] == names
    shown = {row["Submission"]: (row[r"Root, 1 \% off"], row["mini-calls Off"]) for row in table_rows}
    assert (shown["big"], shown["middle"][0]) == (("20000.000", "0.3 is off"), "--")


def test_orders_to_choose_from_have_added_columns_and_the_labels_of_their_headers(added: Store) -> None:
    (board,) = boards(added.results())
    names = sort_names(board)
    assert (names["root"], names["-root"]) == (ROOT.label, f"{ROOT.label}, reversed")
    assert names["task:mini-calls.off"] == "mini-calls Off"
    assert next(iter(names)) == "mean", "an address that names no order shows the board's own"


def test_a_column_that_the_database_stores_is_an_entry_and_a_migration(own_home: Path, tmp_path: Path) -> None:
    """A copy of the suite gets those of the documentation, and shows the board that the suite without them wrote."""
    home, epochs = Home.from_environment(), {"big": 300, "small": 10, "middle": 200}
    for name, epoch in epochs.items():
        for task, metric in TASKS.items():
            record = make_record(name, task, metric=metric).model_copy(update={"epoch": epoch})
            write_record(home.records, record)
            Store(home.database_url).publish(record)

    copy = tmp_path / "copy"
    for package in ("tasks", "leaderboard", "evaluator"):
        shutil.copytree(APP.parents[2] / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    entries = copy / "leaderboard/ranking/columns.py"
    before, after = entries.read_text(encoding="utf-8").split(')\n"""Every column')
    entry = documented("TaskColumn(", ")")
    entries.write_text(f'{before}{entry},\n)\n"""Every column{after}', encoding="utf-8")
    versions = copy / "leaderboard/database/migrations/versions"
    newest = max(path.name for path in versions.glob("*.py"))[:4]
    migration = documented("import sqlalchemy as sa", '        table.drop_column("epoch")')
    migration = migration.replace('"0007"', '"9999"').replace('"0006"', f'"{newest}"')
    (versions / "9999_epoch.py").write_text(migration, encoding="utf-8")

    show, sort = ["leaderboard", "show"], ["--view", "sort=task:mini-calls.epoch"]
    exports = [["leaderboard", "export", f"{tmp_path}/board.{kind}", *sort] for kind in ("csv", "parquet", "tex")]
    commands = [[*show, "--json"], ["leaderboard", "rebuild"], [*show, "--json"], show, *exports]
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, json.dumps(commands)],
        env={**os.environ, "PYTHONPATH": str(copy)},
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    migrated, _, rebuilt, terminal, _, _, _, page = json.loads(done.stdout)

    for out in (migrated, rebuilt):
        (board,) = json.loads(out)
        of_cells = {row["submission"]: [cell["epoch"] for cell in row["cells"]] for row in board["rows"]}
        assert of_cells == {name: [epoch, epoch] for name, epoch in epochs.items()}
    in_order = ["10", "200", "300"]
    of_rows = {row["Submission"]: row["mini-soundscape Epoch"] for row in in_terminal(terminal)}
    assert [of_rows[name] for name in ("small", "middle", "big")] == in_order
    headers, rows = parsed(page)
    assert headers["mini-calls Epoch"]["title"] == "of the chosen probe"
    assert [row["mini-calls Epoch"]["text"] for row in rows] == in_order
    with (tmp_path / "board.csv").open(encoding="utf-8", newline="") as file:
        assert [line["mini-calls.epoch"] for line in csv.DictReader(file)] == in_order
    table = pq.read_table(tmp_path / "board.parquet")
    assert table.schema.field("mini-calls.epoch").type == pa.int64()
    assert table["mini-soundscape.epoch"].to_pylist() == [10, 200, 300]
    assert [row["mini-calls Epoch"] for row in in_latex(tmp_path / "board.tex")] == in_order


PAGE = """
from leaderboard.database.store import Store
from leaderboard.web.views import VIEW
from tasks.support.home import Home

home = Home.from_environment()
VIEW.show(Store(home.database_url), home.records, tracking_uri=home.tracking_uri, mlflow=None)
"""


def test_page_of_a_submission_has_the_memory_that_the_board_has(own_home: Path) -> None:
    """The board showed what a profile had measured, and the page of the submission a dash."""
    store, record = Store(Home.from_environment().database_url), make_record("aves", "mini-calls")
    store.publish(record)
    publish(store, make_profile("aves", weights_sha256=record.submission.weights_sha256))
    page = AppTest.from_string(PAGE.replace("VIEW", "submission"), default_timeout=60)
    page.query_params["name"] = "aves"
    page.run()
    assert not page.exception
    cards = {card.label: card.value for card in page.metric}
    assert (cards["VRAM, one 10-s clip"], cards["Parameters"]) == ("1.00 GiB", "94.4 M")
    assert "not measured" not in page.get("html")[0].proto.body


def test_page_that_compares_marks_an_overlap_as_the_board_does(own_home: Path) -> None:
    """A reader must not see a cleaner score beside another than on the board."""
    store = Store(Home.from_environment().database_url)
    about: dict[str, object] = {"pretraining": [{"data": "FSD50K", "domain": "general audio"}]}
    for name, told in (("heard-it", about), ("clean", {"pretraining": []})):
        store.publish(make_record(name, "esc50", group="auxiliary", about=told))
    page = AppTest.from_string(PAGE.replace("VIEW", "compare"), default_timeout=60)
    page.query_params["with"] = ["heard-it", "clean"]
    page.run()
    assert not page.exception
    table, *_ = page.get("bidi_component")
    rows = json.loads(json.loads(table.proto.json)["rows"])
    assert {cell.get("mark") for row in rows for cell in row["cells"]} == {formats.OVERLAP_MARK, None}
    assert formats.OVERLAP_LEGEND in [caption.value for caption in page.caption]


@pytest.mark.parametrize(
    ("value", "text", "empty"),
    [
        (None, "–", True),
        ("", "–", True),
        (0, "0", False),
        (12_345, "12,345", False),
        (0.12345, "0.123", False),
        (True, "yes", False),
        (False, "no", False),
        ("HuBERT", "HuBERT", False),
    ],
)
def test_a_column_without_a_text_of_its_own_is_shown_by_its_type(value: Value, text: str, empty: bool) -> None:
    (row,) = one_board(make_record()).rows
    shown = Column(key="x", value=lambda row: value, file_type=None).shown(row)
    assert (shown.text, shown.plain, shown.empty) == (text, text, empty)


def test_the_column_of_the_documentation_works_as_it_stands(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = eval(documented("Column(", ")"), vars(columns))
    monkeypatch.setattr(columns, "COLUMNS", (*COLUMNS, entry))
    headers, rows = drawn(sort="millions")
    assert headers["Millions"]["order"] == "ascending"
    assert [row["Millions"]["text"] for row in rows] == ["9.000", "90.000", "400.000"]


def one_board(*records: Any) -> Board:
    (board,) = boards(map(Result.of, records))
    return board


def test_no_two_columns_share_a_name() -> None:
    """Of two columns of one key an address would reach one alone."""
    found = columns_of(one_board(make_record(task="a"), make_record(task="b")))
    assert len({column.key for column in found}) == len({column.name for column in found}) == len(found)
    assert all(column.label for column in found if column.tables or column.sort), "a header without a word"


@pytest.mark.parametrize("key", [column.key for column in columns_of(one_board(make_record(task="a"))) if column.sort])
@pytest.mark.parametrize("sign", ["", "-"])
def test_every_order_is_that_of_the_values(key: str, sign: str) -> None:
    """A reader who sorts by a column sees its values rise or fall, with empty and limited rows below."""
    records = [
        make_record(name, "a", test=test, parameters=size, vram_bytes=memory)
        for name, test, size, memory in (
            ("b", 0.2, 300, 2**30),
            ("A", 0.9, 100, None),
            ("c", 0.5, 200, 2**31),
            ("d", 0.5, 0, 2**29),
        )
    ]
    board = one_board(*records, make_record("z", "a", test=1.0, limit=3))
    rows = sort_rows(board, sign + key)
    assert sorted(row.submission for row in rows) == sorted(row.submission for row in board.rows)
    assert rows[-1].limit == 3
    column = next(column for column in columns_of(board) if column.key == key)
    values = [column.value(row) for row in rows[:-1]]
    known = [value.casefold() if isinstance(value, str) else value for value in values if value is not None]
    assert values[len(known) :] == [None] * (4 - len(known))
    assert known == sorted(known, reverse=(column.sort == "largest first") != (sign == "-"))  # type: ignore[type-var]
