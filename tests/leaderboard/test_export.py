"""A board as a file: the same numbers in all of them, types that fit, and LaTeX that compiles with any names."""

import csv
import io
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from factory import make_record
from hypothesis import given, settings
from hypothesis import strategies as st

from leaderboard.database.standings import catalogue
from leaderboard.database.store import Store
from leaderboard.ranking.boards import Board, boards
from leaderboard.ranking.columns import sort_rows
from leaderboard.ranking.significance import Standing
from leaderboard.records.record import Tracking
from leaderboard.records.result import Result
from leaderboard.web.export import latex, to_csv, to_latex, to_parquet

HOSTILE = r"""\input{/etc/passwd} 100% & _x_ ^2 ~ #1 $y$ {z} "q" 'r' `s` <t> |u| a--b---c ,, ?` !` é ß 中 –– ± ’"""
ABOUT = {"family": "HuBERT", "licence": "MIT", "pretraining": [{"data": "x", "domain": "speech"}]}


def board() -> Board:
    """Ranked rows with and without certainty, a row with a gap, a limited row, names that are code elsewhere."""
    results = [
        *(
            make_record("a", task, test=test, vram_bytes=2**31, about=ABOUT)
            for task, test in (("x", 1 / 3), ("y", 0.7))
        ),
        *(make_record(HOSTILE, task, test=test) for task, test in (("x", 0.9), ("y", 0.2))),
        make_record("=cmd()", "x", test=0.3),
        make_record("a", "x", test=0.99, limit=20),
    ]
    (found,) = boards(map(Result.of, results))
    certain = Standing(
        submission="a",
        rank=2,
        mean=0.51,
        low=0.4,
        high=0.6,
        rank_low=1,
        rank_high=2,
        group=1,
        borda=3.5,
        mean_rank=1.25,
    )
    rows = [replace(row, standing=certain) if row.submission == "a" and row.rank else row for row in found.rows]
    return replace(found, rows=tuple(rows))


def read_back(content: bytes) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(content)).to_pylist()
    return rows


def test_parquet_holds_what_the_csv_holds() -> None:
    """Every field of every row, by the spelling of the CSV, where a formula has an apostrophe before it."""
    shown = board()
    lines = list(csv.DictReader(io.StringIO(to_csv(shown))))
    rows = read_back(to_parquet(shown))
    assert len(lines) == len(rows) == 4
    for line, row in zip(lines, rows, strict=True):
        spelt = {name: "" if value is None else str(value) for name, value in row.items()}
        assert {name: value.removeprefix("'") for name, value in line.items()} == spelt
    assert "'=cmd()" in {line["submission"] for line in lines} and "=cmd()" in {row["submission"] for row in rows}


def test_parquet_has_types_also_where_a_column_is_empty() -> None:
    """A column of nulls would have another type than that of the next day's file."""
    table = pq.read_table(io.BytesIO(to_parquet(board())))
    types = {name: str(table.schema.field(name).type) for name in table.column_names}
    assert {types[name] for name in ("rank", "limit", "parameters", "vram_bytes", "x.best_layer", "rank_low")} == {
        "int64"
    }
    assert {types[name] for name in ("mean", "x", "x.ci_low", "borda", "mean_ci_low")} == {"double"}
    assert {types[name] for name in ("submission", "x.note", "y.record_id", "family", "pretraining_domains")} == {
        "string"
    }
    assert types["remote_code"] == "bool"
    row = next(row for row in table.to_pylist() if row["submission"] == "a" and row["limit"] is None)
    assert (row["x"], row["rank"], row["vram_bytes"], row["remote_code"]) == (1 / 3, 2, 2**31, False)
    assert (row["family"], row["licence"], row["pretraining_domains"]) == ("HuBERT", "MIT", "speech")
    bare = pq.read_table(io.BytesIO(to_parquet(boards([Result.of(make_record(limit=5))])[0])))
    assert [str(bare.schema.field(name).type) for name in ("rank", "mean", "rank_low")] == ["int64", "double", "int64"]


def test_files_have_the_rows_in_the_order_shown() -> None:
    found = board()
    shown = replace(found, rows=tuple(sort_rows(found, "task:x")))
    expected = [HOSTILE.split(maxsplit=1)[0], "a", "=cmd()", "a"]
    for names in (
        [line["submission"].removeprefix("'") for line in csv.DictReader(io.StringIO(to_csv(shown)))],
        [row["submission"] for row in read_back(to_parquet(shown))],
    ):
        assert [name.split(maxsplit=1)[0] for name in names] == expected


@pytest.mark.parametrize("name", ["rank", "mean", "a.note", "parameters", "borda"])
def test_own_tasks_may_be_called_like_a_column(name: str) -> None:
    """Two columns of one name are read as one, or not at all."""
    results = [make_record("m", "a", group="own", test=0.25), make_record("m", name, group="own", test=0.75)]
    (found,) = boards([Result.of(record) for record in results], catalogue())
    table = pq.read_table(io.BytesIO(to_parquet(found)))
    assert len(set(table.column_names)) == len(table.column_names)
    assert 0.75 in table.to_pylist()[0].values()
    assert next(csv.reader(io.StringIO(to_csv(found)))) == table.column_names


def test_headers_are_no_formulas_and_no_task_is_lost_for_it() -> None:
    """With its apostrophe the name of one task is that of the other."""
    results = [make_record("m", "=a", group="own", test=0.25), make_record("m", "'=a", group="own", test=0.75)]
    (found,) = boards([Result.of(record) for record in results], catalogue())
    header, line = csv.reader(io.StringIO(to_csv(found)))
    assert not any(name.startswith("=") for name in header)
    assert sorted(value for name, value in zip(header, line, strict=True) if name == "'=a") == ["0.25", "0.75"]


def test_board_whose_rows_are_all_hidden_has_headers_and_types() -> None:
    """A script that joins the files of many views must not stop at an empty one."""
    full = board()
    empty = replace(full, rows=())
    assert to_csv(empty) == to_csv(full).partition("\n")[0] + "\n"
    read, expected = (pq.read_table(io.BytesIO(to_parquet(one))).schema for one in (empty, full))
    assert (read.names, read.types) == (expected.names, expected.types)
    source = to_latex(empty)
    assert balanced(source) and r"\bottomrule" in source and "& Submission & Mean & x & y & Parameters" in source


def test_latex_has_scores_intervals_and_the_best_in_bold() -> None:
    lines = to_latex(board(), ["Filtered by size."]).splitlines()
    a = next(line for line in lines if line.startswith("2 "))
    assert a == (
        r"2 (1--2) & a & 0.517 {\scriptsize $\pm$ 0.100} & 0.333 {\scriptsize $\pm$ 0.030} & "
        r"\textbf{0.700} {\scriptsize $\pm$ 0.030} & 94.4 M \\"
    )
    assert r"\textbf{0.550}" in next(line for line in lines if line.startswith("1 "))
    incomplete = next(line for line in lines if "=cmd()" in line)
    assert incomplete.startswith("-- & =cmd() & -- & 0.300 {") and "& -- & " in incomplete
    limited = next(line for line in lines if "limited to 20" in line)
    assert r"\textbf" not in limited, "a quick look at 20 clips would be the best of the table"
    (foot,) = (line for line in lines if "footnotesize" in line)
    assert re.search(r"BEANS probe \d+\.\d+\.\d+, protocol beans-probe/2, track ta, built-in tasks\.", foot)
    assert "Filtered by size." in foot and "range of the rank" in foot and "no comparable result" in foot


def balanced(source: str) -> bool:
    """Braces pair up, and none of LaTeX's signs that a name could bring stands unescaped but those of the table."""
    depth = 0
    for token in re.findall(r"\\.|[{}]", source, flags=re.DOTALL):
        depth += {"{": 1, "}": -1}.get(token, 0)
        if depth < 0:
            return False
    return depth == 0


_READ = {
    r"\textbackslash{}": "\\",
    r"\textasciicircum{}": "^",
    r"\textasciitilde{}": "~",
    r"\textless{}": "<",
    r"\textgreater{}": ">",
    r"\textbar{}": "|",
    r"\textasciigrave{}": "`",
    "''": '"',
    **{rf"\{sign}": sign for sign in "{}$&#%_"},
}
_TOKEN = re.compile("|".join(map(re.escape, sorted(_READ, key=len, reverse=True))) + r"|\{\}|[^\\{}$&#%_^~]")


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40))
@settings(max_examples=500)
def test_any_name_is_printed_as_it_is(name: str) -> None:
    """Read back by LaTeX's rules: every sign is one that prints, and together they are the name."""
    source = latex(name)
    tokens = _TOKEN.findall(source)
    assert "".join(tokens) == source, "a sign that LaTeX acts on"
    assert not re.search(r"--|,,|\?`|!`|<<|>>", source), "two signs that are set as one"
    printed = "".join(_READ.get(token, "" if token == "{}" else token) for token in tokens)
    assert printed.replace('"', "''") == " ".join(name.split()).replace('"', "''")


@given(st.text(max_size=40))
def test_a_name_in_any_script_stays_in_ascii_and_on_its_line(name: str) -> None:
    assert re.fullmatch(r"[ -~]*", latex(name)), "pdflatex stops at a sign that its fonts do not have"
    assert balanced(latex(name))


def test_latex_table_is_balanced_with_hostile_names() -> None:
    source = to_latex(board(), [HOSTILE])
    assert balanced(source)
    body = source.split(r"\midrule")[1].split(r"\bottomrule")[0]
    cells = {len(re.split(r"(?<!\\)&", line)) for line in body.splitlines() if line}
    assert cells == {6}, "a name has made a column of its own"
    assert source.count(r"\input") == 0


@pytest.mark.parametrize("packages", ["", r"\usepackage[T1]{fontenc}"])
def test_latex_compiles(packages: str, tmp_path: Path) -> None:
    """With hostile names, and with either of the encodings that papers use."""
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    document = (
        rf"\documentclass{{article}}\usepackage{{booktabs}}{packages}\begin{{document}}"
        f"\n{to_latex(board(), [HOSTILE])}\n\\end{{document}}\n"
    )
    (tmp_path / "paper.tex").write_text(document, encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 1000
    assert "Missing character" not in done.stdout


@pytest.fixture
def filled(own_home: Path) -> Path:
    store = Store(f"sqlite:///{own_home / 'beans.db'}")
    run = Tracking(uri="https://mlflow.example.org", experiment_id="1", run_id="a1")
    for name, size, test in (("big", 400_000_000, 0.9), ("small", 9_000_000, 0.6), ("tiny", 1_000_000, 0.3)):
        for track, more in (("ta", 0.0), ("twa", 0.05)):
            for task, metric in (("mini-calls", "accuracy"), ("mini-soundscape", "map")):
                record = make_record(
                    name, task, metric=metric, track=track, test=test + more, parameters=size, about=ABOUT
                )
                store.publish(record, run if name == "big" else None)
    return own_home


Beans = Callable[..., tuple[int, str, str]]


def test_command_line_writes_the_view_of_an_address(filled: Path, beans: Beans, tmp_path: Path) -> None:
    file = tmp_path / "board.csv"
    view = "http://localhost:8501/?track=twa&size=0-10&sort=parameters&with=big"
    code, out, _ = beans("leaderboard", "export", file, "--view", view)
    assert code == 0
    rows = list(csv.DictReader(file.open(encoding="utf-8", newline="")))
    assert [(row["submission"], row["rank"], row["mini-calls"], row["track"]) for row in rows] == [
        ("tiny", "3", "0.35", "twa"),
        ("small", "2", "0.65", "twa"),
    ]
    assert "Filtered by parameters < 10 M." in out and "2 of 3 rows; ranks are among all 3 ranked rows." in out


def test_command_line_writes_the_first_board_of_every_kind(filled: Path, beans: Beans, tmp_path: Path) -> None:
    for kind in ("csv", "parquet", "tex"):
        assert beans("leaderboard", "export", tmp_path / f"board.{kind}")[0] == 0
    names = [row["submission"] for row in pq.read_table(tmp_path / "board.parquet").to_pylist()]
    assert names == ["big", "small", "tiny"]
    assert r"\textbf{0.900}" in (tmp_path / "board.tex").read_text(encoding="utf-8")
    assert (tmp_path / "board.csv").read_text(encoding="utf-8").count("\n") == 4


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["board.xls"], "does not end in .csv, .parquet or .tex"),
        (["board.csv", "--view", "track=ta&famly=x"], "no parameter 'famly'; choose one of: 'track', 'group'"),
        (["board.csv", "--view", "track=xx"], "no track 'xx'; choose one of: 'ta', 'twa'"),
        (["board.csv", "--view", "family=AVES"], "no family 'AVES'; choose one of: 'HuBERT'"),
        (["board.csv", "--view", "taxa=birds"], "no taxa 'birds'; choose one of: 'none'"),
        (["board.csv", "--view", "sort=beauty"], "no sort 'beauty'; choose one of: 'mean'"),
        (["board.csv", "--view", "birds"], "write it as in an address"),
        (["/proc/board.csv"], "cannot be written"),
        (["boards/board.csv"], "boards is not a directory; create it first"),
    ],
)
def test_command_line_refuses_what_it_would_have_to_guess(
    filled: Path, beans: Beans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    """A filter that is misspelt would give a file of everything."""
    monkeypatch.chdir(tmp_path)
    code, _, complaint = beans("leaderboard", "export", *arguments)
    assert code != 0 and complaint.startswith("Error: ") and told in complaint
    assert complaint.count("\n") == 1 and "Traceback" not in complaint
    assert list(tmp_path.glob("board*")) == []


def test_command_line_says_that_the_board_is_empty(beans: Beans, tmp_path: Path) -> None:
    code, _, complaint = beans("leaderboard", "export", tmp_path / "board.csv")
    assert code != 0 and "The board is empty: run `beans submit" in complaint
