"""From a data set as its authors publish it to a row on the board, by the command line alone."""

import json
from pathlib import Path

import pytest
import replicas_clips
import replicas_recordings
from builders import Run, write_submission

from leaderboard.database.store import Store
from leaderboard.records.files import read_record
from leaderboard.records.protocol import Protocol
from tasks.support.home import Home

SMALL_HUBERT = """loader = "huggingface"
weights = "random"
architecture = "hubert"
do_normalize = false
sample_rate = 16000
config = { hidden_size = 32, num_hidden_layers = 2, num_attention_heads = 4, intermediate_size = 64, conv_dim = \
[16, 16, 16, 16, 16, 16, 16], num_conv_pos_embeddings = 16, num_conv_pos_embedding_groups = 4 }"""
QUICK = ("--trials", 3, "--seeds", 2, "--json")


@pytest.fixture
def submissions(tmp_path: Path) -> list[Path]:
    return [
        write_submission(tmp_path / "floor.toml", 'loader = "statistics"'),
        write_submission(tmp_path / "hubert.toml", SMALL_HUBERT),
    ]


def rows(out: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


def test_esc50_goes_from_its_own_layout_to_the_board(beans: Run, tmp_path: Path, submissions: list[Path]) -> None:
    replicas_clips.origin("esc50", tmp_path / "esc50")
    code, out, err = beans("tasks", "list", "--json")
    entry = next(task for task in json.loads(out) if task["name"] == "esc50")
    assert (entry["prepared"], entry["reason"]) == (False, "not prepared: run `beans tasks prepare esc50`")
    code, out, err = beans("tasks", "prepare", "esc50", "--source", tmp_path / "esc50")
    assert code == 0 and out == "esc50: prepared (origin, 16-bit FLAC)\n", err
    code, out, _ = beans("tasks", "prepare", "esc50", "--source", tmp_path / "esc50")
    assert out == "esc50: was prepared already (origin, 16-bit FLAC)\n"

    # No task is named: what is prepared is what runs.
    code, out, err = beans("submit", *submissions, *QUICK)
    assert code == 0, err
    found = rows(out)
    assert [(row["submission"], row["task"], row["n_layers"]) for row in found] == [
        ("floor", "esc50", 2),
        ("hubert", "esc50", 3),
    ]
    for row in found:
        record = read_record(Path(str(row["record"])))
        assert record.audio["prepared"] == "origin, 16-bit FLAC"
        assert (record.task.group, record.task.native_rates, len(record.task.labels)) == ("auxiliary", [44100], 50)
    assert len(Store(Home.from_environment().database_url).results()) == 2
    code, out, _ = beans("leaderboard", "show")
    assert code == 0 and "esc50" in out


def test_few_labels_and_shots_are_ranked_apart(beans: Run, tmp_path: Path, submissions: list[Path]) -> None:
    replicas_clips.origin("esc50", tmp_path / "esc50")
    beans("tasks", "prepare", "esc50", "--source", tmp_path / "esc50")
    code, out, err = beans("submit", submissions[0], "--low", "--shots", "1,2", *QUICK)
    assert code == 0, err
    found = {Protocol.parse(str(row["protocol"])).train: row for row in rows(out)}
    assert list(found) == ["low", "1-shot", "2-shot"]
    counts = [row["n_train"] for row in found.values()]
    assert counts[1] < counts[2]  # type: ignore[operator]
    assert len({(row["n_valid"], row["n_test"]) for row in found.values()}) == 1
    code, out, _ = beans("leaderboard", "show", "--json")
    boards = json.loads(out)
    assert len(boards) == 3 and all(len(board["rows"]) == 1 for board in boards), "ranked against each other"


def test_verify_says_what_is_missing_and_ends_with_two(beans: Run, tmp_path: Path) -> None:
    replicas_clips.origin("esc50", tmp_path / "esc50")
    beans("tasks", "prepare", "esc50", "--source", tmp_path / "esc50")
    code, out, _ = beans("tasks", "verify", "esc50", "--json")
    findings = {finding["name"]: finding for finding in json.loads(out)["esc50"]}
    assert code == 2, "a miniature passes for the data set"
    assert "1200 / 400 / 400 are published" in findings["items"]["says"]
    assert [name for name, finding in findings.items() if finding["status"] == "fail"] == ["items"]


def test_a_detection_task_left_in_place_is_evaluated(beans: Run, tmp_path: Path, submissions: list[Path]) -> None:
    replicas_recordings.origin("enabirds", tmp_path / "source")
    code, out, err = beans("tasks", "prepare", "enabirds", "--source", tmp_path / "source", "--in-place")
    assert code == 0 and "left in place" in out, err
    code, out, err = beans("submit", submissions[0], "--tasks", "enabirds", "--limit", 130, *QUICK)
    assert code == 0, err
    (row,) = rows(out)
    assert row["metric"] == "map"
    assert read_record(Path(str(row["record"]))).audio["prepared"] == "origin, left in place"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("prepare", "nonsense"), "There is no task 'nonsense'"),
        (("prepare", "esc50", "--from", "beans"), "--from beans needs --source"),
        (("prepare", "esc50", "--source", "/nothing/here"), "/nothing/here"),
        (("verify", "esc50"), "run `beans tasks prepare esc50`"),
        (("items", "esc50"), "run `beans tasks prepare esc50`"),
    ],
)
def test_mistakes_are_one_sentence(beans: Run, arguments: tuple[str, ...], says: str) -> None:
    code, _, err = beans("tasks", *arguments)
    assert code == 2 and says in err and "Traceback" not in err, err
    assert len([line for line in err.splitlines() if line.startswith("Error")]) == 1


@pytest.mark.parametrize("shots", ["0", "1.5", "many"])
def test_shots_are_whole_positive_numbers(beans: Run, submissions: list[Path], shots: str) -> None:
    code, _, err = beans("submit", submissions[0], "--tasks", "mini-calls", "--shots", shots)
    assert code == 2 and "--shots" in err and "Traceback" not in err, err
