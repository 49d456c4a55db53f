"""`beans records import`: what a stranger sends is taken in whole, or refused with the reason, and never harms."""

import copy
import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from consistent import write_consistent
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ports import free_port

from evaluator.results.verification import Verifier
from leaderboard.database.store import Store
from leaderboard.ranking.resamples import resample
from leaderboard.records import incoming
from leaderboard.records.files import read_imported, read_record, record_paths, tracking_path
from leaderboard.records.incoming import Arrival, receive
from leaderboard.records.plausibility import parse_record
from leaderboard.records.predictions import read_predictions
from tasks.support.errors import UserError
from tasks.support.home import Home

Beans = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sent(tmp_path: Path) -> Path:
    """A directory that somebody sent."""
    return tmp_path / "sent"


@pytest.fixture
def home(own_home: Path) -> Home:
    return Home.from_environment()


def take(sent: Path, home: Home, **options: Any) -> list[Arrival]:
    return list(receive(sent, home, Verifier(home.data).problems, **options))


def everything(root: Path) -> dict[str, bytes]:
    """Every file below a directory, but for locks."""
    files = (path for path in root.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def refused(sent: Path, home: Home) -> str:
    """The reason for which the one record in ``sent`` was refused; nothing may have changed."""
    before = everything(home.root.parent)
    (arrival,) = take(sent, home)
    assert arrival.state == "refused"
    assert everything(home.root.parent) == before, "a refused record left something behind"
    assert arrival.reason.isprintable() and arrival.file.isprintable(), "a terminal obeys such characters"
    return arrival.reason


def edit(path: Path, key: str, value: object) -> None:
    document = json.loads(path.read_text())
    *outer, last = key.split(".")
    place = document
    for step in outer:
        place = place[int(step) if step.isdigit() else step]
    place[last] = value
    path.write_text(json.dumps(document))


def test_records_of_others_come_onto_the_board_with_their_origin(
    beans: Beans, home: Home, sent: Path, own_home: Path
) -> None:
    """From a colleague's directory to one's own board, MLflow and list; a second time changes nothing."""
    theirs = [write_consistent(sent, "theirs"), write_consistent(sent, "theirs", kind="detection", task="scape")]
    tracking_path(theirs[0]).write_text('{"uri": "http://evil.example", "experiment_id": "1", "run_id": "x"}')
    for state in ("accepted", "present"):
        code, out, err = beans("records", "import", sent, "--json")
        assert (code, [row["state"] for row in json.loads(out)]) == (0, [state, state]), err
        kept = list(record_paths(home.records))
        assert [read_record(path) for path in kept] == [read_record(path) for path in theirs]
        results = Store(home.database_url).results()
        assert sorted((result.submission, result.task) for result in results) == [
            ("theirs", "mine"),
            ("theirs", "scape"),
        ]
        assert all(result.run is not None and result.run.uri.startswith("sqlite") for result in results), (
            "the sender's link to MLflow must not come onto the board"
        )
    for path in kept:
        file = read_record(path).predictions.file
        assert (home.records / file).read_bytes() == (sent / file).read_bytes()
        note = read_imported(path)
        assert note is not None
        assert (note.directory, bool(note.by)) == (str(sent), True)
        assert datetime.now(UTC) - note.at < timedelta(minutes=5)
    write_consistent(home.records, "ours")
    code, out, _ = beans("records", "list")
    assert out.count(f"imported {note.at:%Y-%m-%d} by {note.by}") == 2
    assert out.count("made here") == 1
    code, out, _ = beans("records", "list", "--json")
    assert [row["imported"] and row["imported"]["directory"] for row in json.loads(out)] == [None, str(sent), str(sent)]
    assert beans("records", "verify", "--all")[0] == 0


def test_imported_records_have_their_rank_intervals_at_once(beans: Beans, home: Home, sent: Path) -> None:
    """Nobody should have to rebuild the board to see how far the rank of what came in can be trusted."""
    for number, name in enumerate(("one", "two")):
        write_consistent(sent, name, targets=np.arange(24) % 3, seed=number)
    write_consistent(sent, "quick", limit=5)
    code, _, err = beans("records", "import", sent)
    assert code == 0 and "rank intervals" in err, err
    code, out, _ = beans("leaderboard", "show", "--json")
    (board,) = json.loads(out)
    assert {row["submission"]: row["standing"] is not None for row in board["rows"]} == {
        "one": True,
        "two": True,
        "quick": False,
    }
    literal = {}
    for path in record_paths(home.records):
        record = read_record(path)
        literal[record.submission.name] = resample(
            record.task.name, record.metric, record.test, read_predictions(home.records, record)
        ).resampled
    ahead = np.where(literal["one"] == literal["two"], 0, np.sign(literal["one"] - literal["two"]))
    ranks = {"one": np.sort(np.where(ahead < 0, 2, 1)), "two": np.sort(np.where(ahead > 0, 2, 1))}
    for row in board["rows"][:2]:
        low, high = ranks[row["submission"]][[24, 974]]
        standing = row["standing"]
        assert (standing["rank_low"], standing["rank_high"]) == (min(low, row["rank"]), max(high, row["rank"]))


def test_dry_run_says_what_would_be_and_leaves_no_trace(beans: Beans, home: Home, sent: Path) -> None:
    write_consistent(sent, "good")
    edit(write_consistent(sent, "bad"), "test", 1.0)
    code, out, _ = beans("records", "import", sent, "--dry-run", "--json")
    assert code == 2
    assert [(row["submission"], row["state"]) for row in json.loads(out)] == [(None, "refused"), ("good", "accepted")]
    assert not home.root.exists()
    _, out, _ = beans("records", "import", sent, "--dry-run")
    assert "1 would be imported, 0 here already, 1 refused" in out
    beans("records", "import", sent)
    _, out, _ = beans("records", "import", sent, "--dry-run")
    assert "0 would be imported, 1 here already, 1 refused" in out


def test_database_that_is_down_loses_no_record(
    beans: Beans, home: Home, sent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The records are kept, and the same command puts them on the board when it is back."""
    for name in ("one", "two"):
        write_consistent(sent, name)
    monkeypatch.setenv("BEANS_DATABASE_URL", f"postgresql://beans@127.0.0.1:{free_port()}/board")
    code, _, err = beans("records", "import", sent)
    assert (code, err.count("cannot be used")) == (0, 1)
    monkeypatch.delenv("BEANS_DATABASE_URL")
    assert beans("records", "import", sent)[0] == 0
    assert sorted(result.submission for result in Store(home.database_url).results()) == ["one", "two"]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("submission.name", "<script>alert(1)</script>", "is not a name"),
        ("submission.name", "x" * 10_000_000, "larger than 8 MiB"),
        ("submission.name", "x" * 81, "is not a name"),
        ("submission.name", "../../../evil", "is not a name"),
        ("submission.name", "..", "is not a name"),
        ("submission.name", "\x1b[2Jgone", "is not a name"),
        ("submission.name", "а-cyrillic", "is not a name"),
        ("task.name", "../evil", "is not a name"),
        ("track", "ta/../..", "is not a name"),
        ("predictions.file", "../predictions.safetensors", "predictions.file"),
        ("predictions.file", "..", "must be called"),
        ("predictions.file", "/etc/passwd", "predictions.file"),
        ("predictions.file", "other.predictions.safetensors", "must be called"),
        ("predictions.sha256", "0" * 64, "its sha256 differs"),
        ("id", "../../../../evil", "id"),
        ("task.split_hash", "abc", "split_hash"),
        ("protocol", "beans-probe/2+<img>=1", "none of this suite's"),
        ("protocol", "mine/1", "none of this suite's"),
        ("test", float("nan"), "NaN is not a number"),
        ("ci_high", float("inf"), "Infinity is not a number"),
        ("test", 7, "test"),
        ("test", "0.5\x00", "test"),
        ("efficiency.vram_bytes", -1, "vram_bytes"),
        ("efficiency.vram_bytes", 10**15, "vram_bytes: Input should be less than or equal to 100000000000000"),
        ("efficiency.seconds", -2.0, "seconds: Input should be greater than or equal to 0"),
        ("submission.parameters", 10**14, "parameters: Input should be less than"),
        ("submission.parameters", -5, "parameters"),
        ("submission.sample_rate", 10**9, "sample_rate: Input should be less than"),
        ("submission.about", {"authors": 10**400}, "more than 64 bits"),
        ("submission.about", {"authors": "\u202eevil"}, "control characters"),
        ("submission.about", {"authors": "bell\x07"}, "control characters"),
        ("submission.about", {"authors": "x" * 100_000}, "characters long"),
        ("submission.about", {"x" * 1000: "long key"}, "a key of submission.about"),
        ("efficiency.device", "two\nlines", "control characters"),
        ("layers.0.name", "two\nlines", "control characters"),
        ("layers.0.lr", 1e30, "layers.0.lr: Input should be less than"),
        ("layers.0.epoch", 10**9, "layers.0.epoch: Input should be less than"),
        ("epoch", 0, "epoch: Input should be greater than"),
        ("task.native_rates", [0], "native_rates.0: Input should be greater than"),
        ("layers.0.width", 0, "layers.0.width: Input should be greater than"),
        ("seconds", {"test": 1e10}, "seconds.test: Input should be less than"),
        ("layers", [], "layers: List should have at least 1 item"),
        ("trials", [], "trials: List should have at least 1 item"),
        ("test_seeds", [], "test_seeds: List should have at least 1 item"),
        ("trials.0.valid", [0.5], "for each of the 4 layers"),
        ("best_layer", 2**62, "best_layer"),
        ("task.n_test", 10**12, "n_test: Input should be less than"),
        ("created", "2999-01-01T00:00:00Z", "created"),
        ("created", "0001-01-01T00:00:00+14:00", "created"),
        ("created", -(10**17), "created"),
        ("schema_version", 2, "schema_version"),
        ("surprise\x1b[31m", 1, "unknown key"),
    ],
)  # fmt: skip
def test_hostile_field_is_refused(sent: Path, home: Home, key: str, value: object, expected: str) -> None:
    write_consistent(home.records, "ours")
    edit(write_consistent(sent), key, value)
    assert expected in refused(sent, home)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "not a record"),
        (b"[]", "not a record"),
        (b"null", "not a record"),
        (b"\xff\xfe{}", "not a record"),
        (b'{"id": 1, "id": 2}', "a key occurs twice"),
        (b'{"test": 1e999}', "not finite"),
        (b'{"test": ' + b"9" * 5000 + b"}", "not a record"),
        (b"[" * 1_000_000, "nested too deeply"),
        (b"[" * 30 + b"]" * 30, "nested too deeply"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
    ],
)
def test_hostile_json_is_refused(sent: Path, home: Home, content: bytes, expected: str) -> None:
    sent.mkdir()
    (sent / "record.json").write_bytes(content)
    assert expected in refused(sent, home)


def test_links_pipes_and_directories_are_refused_unread(sent: Path, home: Home, tmp_path: Path) -> None:
    """A link would carry a file of this machine onto the board; a pipe would stop the program for ever."""
    path = write_consistent(tmp_path / "elsewhere")
    predictions = path.with_name(read_record(path).predictions.file)
    sent.mkdir()
    place = sent / path.name

    place.symlink_to(path)
    assert "it is a link" in refused(sent, home)
    place.unlink()
    os.mkfifo(place)
    assert "no plain file" in refused(sent, home)
    place.unlink()
    place.mkdir()
    assert "no plain file" in refused(sent, home)
    place.rmdir()

    shutil.copy(path, place)
    assert "is missing" in refused(sent, home)
    (sent / predictions.name).symlink_to(predictions)
    assert "it is a link" in refused(sent, home)
    (sent / predictions.name).unlink()
    os.mkfifo(sent / predictions.name)
    assert "no plain file" in refused(sent, home)
    (sent / predictions.name).unlink()
    shutil.copy(predictions, sent)
    assert [arrival.state for arrival in take(sent, home)] == ["accepted"]


def test_files_that_are_too_large_or_too_many_are_refused(
    sent: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_consistent(sent)
    predictions = sent / read_record(path).predictions.file
    with predictions.open("ab") as file:
        file.truncate(incoming.MOST_PREDICTIONS_BYTES + 1)
    assert "larger than 256 MiB" in refused(sent, home)
    monkeypatch.setattr(incoming, "MOST_ENTRIES", 1)
    with pytest.raises(UserError, match="more than 1 files"):
        take(sent, home)


def test_file_names_cannot_speak_to_the_terminal(sent: Path, home: Home, beans: Beans) -> None:
    sent.mkdir()
    (sent / "\x1b[2J\n\u202e.json").write_text("{")
    Path(os.fsdecode(os.fsencode(sent) + b"/\xff.json")).write_text("{")
    for options in ((), ("--json",)):
        code, out, err = beans("records", "import", sent, *options)
        assert code == 2
        assert not set(out + err) & set("\x1b\u202e")
    assert all(arrival.file.isprintable() for arrival in take(sent, home))


def test_record_of_an_id_that_is_taken_replaces_nothing(sent: Path, home: Home) -> None:
    """Otherwise anybody could put other numbers in the place of one's own."""
    ours = write_consistent(home.records)
    before = everything(home.root)
    write_consistent(sent, seed=1)
    assert [path.name for path in record_paths(sent)] == [ours.name]
    assert "is here already: that one is kept" in refused(sent, home)
    assert everything(home.root) == before


def test_name_of_a_model_of_ours_is_not_taken(sent: Path, home: Home) -> None:
    """The newest model of a name is the one that the board shows."""
    write_consistent(home.records, "hubert", weights="ours")
    write_consistent(sent, "hubert", weights="theirs")
    assert "stands for a model with other weights here" in refused(sent, home)
    shutil.rmtree(sent)
    write_consistent(sent, "hubert", weights="ours", task="another")
    assert [arrival.state for arrival in take(sent, home)] == ["accepted"]


def test_one_bad_record_keeps_no_other_out(sent: Path, home: Home) -> None:
    paths = [write_consistent(sent, name) for name in ("a", "b", "c")]
    edit(paths[1], "test", 0.123)
    assert [arrival.state for arrival in take(sent, home)] == ["accepted", "refused", "accepted"]
    assert [read_record(path).submission.name for path in record_paths(home.records)] == ["a", "c"]


def test_killed_between_predictions_and_record_the_next_import_takes_it(
    sent: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_consistent(sent)

    def killed(directory: Path, record: object) -> Path:
        raise KeyboardInterrupt

    verify = Verifier(home.data).problems
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):

        def verified_then_killed(path: Path) -> list[str]:
            found = verify(path)
            patch.setattr(incoming, "write_record", killed)
            return found

        list(receive(sent, home, verified_then_killed))
    assert list(record_paths(home.records)) == [], "a record that stands half is no record"
    assert [arrival.state for arrival in take(sent, home)] == ["accepted"]
    assert Verifier(home.data).problems(next(record_paths(home.records))) == []


def test_what_is_kept_is_what_was_checked(sent: Path, home: Home) -> None:
    """The sender may exchange the files between the check and the copy."""
    path = write_consistent(sent)
    predictions = sent / read_record(path).predictions.file
    verify = Verifier(home.data).problems

    def exchanged_after_the_check(checked: Path) -> list[str]:
        found = verify(checked)
        predictions.write_bytes(b"other")
        path.write_text("{}")
        return found

    (arrival,) = receive(sent, home, exchanged_after_the_check)
    assert arrival.path is not None
    assert verify(arrival.path) == []


@pytest.mark.parametrize("content", [None, {}, {"readme.txt": "hello"}])
def test_directory_without_records_is_one_sentence(sent: Path, beans: Beans, content: dict[str, str] | None) -> None:
    if content is not None:
        sent.mkdir()
        for name, text in content.items():
            (sent / name).write_text(text)
    code, _, err = beans("records", "import", sent)
    assert code == 2
    assert err.count("\n") == 1
    assert "name the" in err


HOSTILE = st.sampled_from(
    [None, True, -1, 0, 2**63, -(2**70), 0.5, -0.0, 1e308, "", "..", "<b>", "\0", "\ud800", "x" * 300, [], {}, [[]],
     {"": None}, "NaN", "1", "2026-01-01", [None], {"name": 1}]
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_put_anywhere_is_refused_or_the_same_record(data: st.DataObject, tmp_path: Path) -> None:
    """No content may end in a traceback, and none in another record than its predictions are of."""
    sent, home = tmp_path / "sent", Home.at(tmp_path / "home")
    if not sent.exists():
        write_consistent(sent)
    path = next(record_paths(sent))
    original = path.read_text()
    document = json.loads(original)
    changed = copy.deepcopy(document)
    place: Any = changed
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else list(range(len(place)))))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(HOSTILE)
    path.write_text(json.dumps(changed))
    try:
        (arrival,) = take(sent, home, dry_run=True)
        assert arrival.state in ("accepted", "refused")
        if arrival.state == "accepted":
            ours, theirs = parse_record(original.encode()), parse_record(path.read_bytes())
            scores = ("id", "test", "test_seeds", "ci_low", "ci_high", "best_layer", "predictions", "protocol")
            for name in scores:
                assert getattr(ours, name) == getattr(theirs, name)
    finally:
        path.write_text(original)
