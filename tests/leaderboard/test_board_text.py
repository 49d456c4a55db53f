"""What is written out: the CSV, the command, the links; names in all of them are anybody's."""

import csv
import io
import json
import shlex
import tomllib
from datetime import UTC, timedelta, timezone
from urllib.parse import parse_qs

import pytest
from factory import make_record
from hypothesis import given
from hypothesis import strategies as st

from leaderboard.ranking import formats
from leaderboard.ranking.boards import boards
from leaderboard.records.record import Tracking
from leaderboard.records.reproduce import caveat, command, file_name, submission_file, toml
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
    for settings, options in (("trials=4+seeds=2", "--trials 4 --seeds 2"), ("grid=1e-05,0.001", "--lr 1e-05,0.001")):
        record = make_record("wavlm large", "bats", track="twa", protocol=f"beans-probe/2+{settings}", limit=20)
        assert shlex.split(command(record)) == [
            *("beans", "submit", "wavlm-large.toml", "--tasks", "bats", "--track", "twa"),
            *(*options.split(), "--limit", "20"),
        ]
        assert caveat(record) == ""


def test_command_is_safe_to_paste() -> None:
    record = make_record("x; rm -rf ~", "$(reboot)", track="`id`", protocol="p+trials=1;id")
    assert shlex.split(command(record)) == [
        *("beans", "submit", "x-rm--rf.toml", "--tasks", "$(reboot)", "--track", "`id`")
    ]
    assert file_name(make_record("../..")) == "submission.toml"


def test_submission_file_gives_back_what_was_submitted() -> None:
    record = make_record(
        'say "hi"\n', about={"authors": ["A", "B\\"], "open weights": True, "year": 2026, "none": None}
    )
    read = tomllib.loads(submission_file(record))
    assert read["submission"] == {"name": 'say "hi"\n', "loader": "huggingface", **record.submission.arguments}
    assert read["about"] == {"authors": ["A", "B\\"], "open weights": True, "year": 2026}


def test_submission_without_facts_is_written_without_a_table_of_them() -> None:
    """The suite refuses an empty table, so the file on the page could not be run."""
    assert tomllib.loads(submission_file(make_record(about={}))).keys() == {"submission"}


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
        (formats.parameters(94_371_712), "94.4 M"),
        (formats.parameters(1_200), "0.0012 M"),
        (formats.parameters(0), "0"),
        (formats.memory(612 * 2**20), "612 MiB"),
        (formats.memory(3 * 2**29), "1.50 GiB"),
        (formats.rate(0.001), "1.0e-3"),
        (formats.half_interval(0.4, 0.5), "± 0.050"),
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


_SCALARS = (
    st.text()
    | st.text(st.sampled_from("\"'\\\n\r\t\x00\x1b\x7f\x85\u2028#=[]{}.,"), min_size=1)
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.dates()
    | st.datetimes(timezones=st.sampled_from([None, UTC, timezone(-timedelta(hours=9, minutes=30))]))
    | st.times()
)
_KEYS = st.text() | st.sampled_from(["a.b", "a b", "", "#", '"', "\n", "[a]", "ключ"])
_TABLES = st.dictionaries(_KEYS, _SCALARS, max_size=3)
_VALUES = st.recursive(
    _SCALARS | st.lists(_TABLES, min_size=1, max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
)


@given(st.dictionaries(_KEYS, st.dictionaries(_KEYS, _VALUES, max_size=4), max_size=3))
def test_what_is_written_as_toml_is_read_back_as_it_was(tables: dict[str, dict[str, object]]) -> None:
    """Names and descriptions are anybody's: quotes, control characters, dates and nested tables must survive."""
    assert tomllib.loads(toml(tables)) == tables


@pytest.mark.parametrize("value", [None, [None], {"x": None}, [{"x": None}], ([None, [None]],)])
def test_a_null_of_a_record_is_left_out_of_its_submission_file_at_any_depth(value: object) -> None:
    """Records of others hold any JSON; one that TOML lacks must not spoil the page that shows the file."""
    record = make_record()
    info = record.submission.model_copy(update={"arguments": {"value": value, "after": 1}})
    record = record.model_copy(update={"submission": info})
    read = tomllib.loads(submission_file(record))
    assert read["submission"]["after"] == 1
    assert "None" not in str(read) and "null" not in str(read)


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({}, ["not stated, so overlaps with tasks are unknown"]),
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
