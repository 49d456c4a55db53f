"""What is written out: the CSV, the command, the links; names in all of them are anybody's."""

import csv
import io
import json
import shlex
import tomllib
from urllib.parse import parse_qs

import pytest
from factory import make_record
from hypothesis import given
from hypothesis import strategies as st

from leaderboard.ranking.boards import boards
from leaderboard.records.record import Tracking
from leaderboard.records.reproduce import command, file_name, submission_file, toml, unreachable
from leaderboard.records.result import Result
from leaderboard.web import text
from leaderboard.web.export import to_csv

HOSTILE = "<script>alert(1)</script>"


def test_csv_has_full_precision_and_a_reason_for_every_gap() -> None:
    results = [make_record("a", "bats", test=1 / 3), make_record("a", "dogs", test=0.5), make_record("b, c", "bats")]
    (board,) = boards(map(Result.of, results))
    first, second = csv.DictReader(io.StringIO(to_csv(board)))
    assert float(first["bats"]) == 1 / 3
    assert float(first["mean"]) == (1 / 3 + 0.5) / 2
    assert (first["rank"], first["bats.best_layer"], first["vram_bytes"]) == ("1", "7", "")
    assert first["bats.record_id"] == results[0].id
    assert "no CUDA device" in first["vram_note"]
    assert (second["submission"], second["rank"], second["dogs"], second["dogs.note"]) == ("b, c", "", "", "not run")


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+1", "-1", "@x"])
def test_csv_names_are_no_formulas(name: str) -> None:
    """A spreadsheet would run them on the reader's machine."""
    (board,) = boards([Result.of(make_record(name))])
    (row,) = csv.DictReader(io.StringIO(to_csv(board)))
    assert row["submission"] == f"'{name}"


def test_command_repeats_every_setting_that_departs_from_the_protocol() -> None:
    record = make_record(
        "wavlm large", "bats", track="twa", protocol="beans-probe/1+trials=4+grid=1e-05,0.001", limit=20
    )
    assert shlex.split(command(record)) == [
        *("beans", "submit", "wavlm-large.toml", "--tasks", "bats", "--track", "twa"),
        *("--trials", "4", "--lr", "1e-05,0.001", "--limit", "20"),
    ]
    assert unreachable(make_record(protocol="beans-probe/1+epochs=3+seeds=1")) == ["epochs=3"]


def test_command_is_safe_to_paste() -> None:
    record = make_record("x; rm -rf ~", "$(reboot)", track="`id`", protocol="p+trials=1;id")
    assert shlex.split(command(record)) == [
        *("beans", "submit", "x-rm--rf.toml", "--tasks", "$(reboot)", "--track", "`id`", "--trials", "1;id")
    ]
    assert file_name(make_record("../..")) == "submission.toml"


def test_submission_file_gives_back_what_was_submitted() -> None:
    record = make_record(
        'say "hi"\n', about={"authors": ["A", "B\\"], "open weights": True, "year": 2026, "none": None}
    )
    read = tomllib.loads(submission_file(record))
    assert read["submission"] == {"name": 'say "hi"\n', "loader": "huggingface", **record.submission.arguments}
    assert read["about"] == {"authors": ["A", "B\\"], "open weights": True, "year": 2026}


def test_facts_escape_keys_and_values() -> None:
    shown = text.facts({HOSTILE: HOSTILE, "list": [HOSTILE], "link": f'https://x.org/"{HOSTILE}'})
    assert "<script" not in shown
    assert 'href="https://x.org/&quot;' in shown


def test_address_in_a_sentence_is_a_link_without_the_sentence() -> None:
    shown = text.facts({"source": "https://x.org/a (A.zip), https://y.org; <b>"})
    assert 'href="https://x.org/a"' in shown and ">https://x.org/a</a> (A.zip), " in shown
    assert 'href="https://y.org"' in shown and ">https://y.org</a>; &lt;b&gt;" in shown


def test_commands_of_a_fact_are_code_and_nothing_gets_out_of_it() -> None:
    assert "<code>beans tasks prepare x</code> downloads it" in text.facts(
        {"source": "`beans tasks prepare x` downloads it"}
    )
    assert "<img" not in text.facts({"source": f"`<img src=x>` `{HOSTILE}`"})


def test_only_web_addresses_become_links() -> None:
    assert text.web_address("javascript:alert(1)") is None
    assert text.web_address("https://user:secret@x.org:8080/a?b=c#d") == "https://x.org:8080/a?b=c#d"
    assert text.web_address("http://[bad") is None


def test_runs_link_to_the_server_that_has_them() -> None:
    local = Tracking(uri="sqlite:///mlflow.db", experiment_id="1", run_id="abc")
    remote = Tracking(uri="https://user:secret@mlflow.org/", experiment_id="2", run_id="d/../ef")
    where = {"local_uri": "sqlite:///mlflow.db", "local_server": "http://localhost:5000"}
    assert text.run_link(local, **where) == "http://localhost:5000/#/experiments/1/runs/abc"
    assert text.run_link(remote, **where) == "https://mlflow.org/#/experiments/2/runs/def"
    assert text.run_link(local, local_uri="sqlite:///other.db", local_server="http://localhost:5000") is None
    assert text.run_link(local, local_uri="sqlite:///mlflow.db", local_server=None) is None
    assert text.run_link(None, **where) is None


LOCAL = Tracking(uri="sqlite:///mlflow.db", experiment_id="1", run_id="abc")
OTHER = Tracking(uri="sqlite:///mlflow.db", experiment_id="2", run_id="def")
REMOTE = Tracking(uri="https://user:secret@mlflow.org/", experiment_id="2", run_id='d"]&x=[')


@pytest.mark.parametrize(
    ("runs", "server", "expected"),
    [
        ([LOCAL], "http://localhost:5000", "http://localhost:5000/#/experiments/1/runs/abc"),
        ([LOCAL, OTHER, LOCAL], "http://localhost:5000", ("http://localhost:5000", ["abc", "def"], ["1", "2"])),
        ([REMOTE, REMOTE], None, ("https://mlflow.org", ["dx"], ["2"])),
        # The server beside the board may be the one that others name in full.
        ([LOCAL, REMOTE], "https://mlflow.org/", ("https://mlflow.org", ["abc", "dx"], ["1", "2"])),
        ([LOCAL, REMOTE], "http://localhost:5000", "different MLflow servers"),
        ([LOCAL, REMOTE], None, "beans leaderboard serve --mlflow"),
        ([], "http://localhost:5000", "beans records push"),
    ],
)
def test_runs_are_compared_on_the_one_server_that_has_them(
    runs: list[Tracking], server: str | None, expected: str | tuple[str, list[str], list[str]]
) -> None:
    """A link to a server that does not know a run leads to an error there."""
    link, why = text.compare_link(runs, local_uri="sqlite:///mlflow.db", local_server=server)
    if isinstance(expected, tuple):
        assert link is not None and why == ""
        address, query = link.split("/#/compare-runs?")
        assert (address, {key: json.loads(value) for key, (value,) in parse_qs(query).items()}) == (
            expected[0],
            {"runs": expected[1], "experiments": expected[2]},
        )
        assert "secret" not in link
    elif link is not None:
        assert (link, why) == (expected, "")
    else:
        assert expected in why


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (text.parameters(94_371_712), "94.4 M"),
        (text.parameters(1_200), "0.0012 M"),
        (text.parameters(0), "0"),
        (text.memory(612 * 2**20), "612 MiB"),
        (text.memory(3 * 2**29), "1.50 GiB"),
        (text.rate(0.001), "1.0e-3"),
        (text.half_interval(0.4, 0.5), "± 0.050"),
    ],
)
def test_numbers_are_spelt_for_readers(shown: str, expected: str) -> None:
    assert shown == expected


def test_submission_file_of_a_record_can_leave_hours_unsaid() -> None:
    """TOML has no null, so a data set of unknown length must not become one."""
    entry = {"data": "x", "domain": "speech", "hours": None, "collections": []}
    read = tomllib.loads(submission_file(make_record(about={"pretraining": [entry, {**entry, "hours": 960.5}]})))
    plain = {"data": "x", "domain": "speech", "collections": []}
    assert read["about"]["pretraining"] == [plain, {**plain, "hours": 960.5}]


_SCALARS = st.text() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


@given(st.dictionaries(st.text(), st.dictionaries(st.text(), _VALUES, max_size=4), max_size=3))
def test_what_is_written_as_toml_is_read_back_as_it_was(tables: dict[str, dict[str, object]]) -> None:
    """Names and descriptions are anybody's: quotes, control characters and line breaks must survive."""
    assert tomllib.loads(toml(tables)) == tables


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({}, ["not stated, so nothing is known of an overlap with a task"]),
        ({"pretraining": []}, ["none"]),
        (
            {
                "pretraining": [
                    {"data": "FSD50K", "domain": "general audio", "hours": 5800.0, "collections": ["Freesound"]}
                ]
            },
            ["FSD50K (general audio, 5,800 h, drawn from Freesound)"],
        ),
        ({"pretraining": [{"data": "x", "hours": None, "collections": []}, "y", {}]}, ["x", "y", "?"]),
    ],
)
def test_pretraining_is_told_in_words(about: dict[str, object], expected: list[str]) -> None:
    assert text.pretraining(about) == expected
