"""What the board says in words follows from the records: who is first, and who is above the controls."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from factory import make_record

from leaderboard.database.standings import compute
from leaderboard.database.store import Store
from leaderboard.ranking.boards import boards
from leaderboard.ranking.findings import findings
from leaderboard.ranking.significance import Scored
from leaderboard.records.files import write_record
from leaderboard.records.predictions import PredictedScores, write_predictions
from leaderboard.records.result import Result
from leaderboard.records.stored import StoredRecord
from tasks.support.home import Home
from tasks.support.progress import silent

CONTROL, PRETRAINED = {"pretraining": []}, {"pretraining": [{"data": "LibriSpeech", "domain": "speech"}]}
Scores = dict[tuple[str, str], float]


def said(scores: Scores, about: dict[str, dict[str, object]], spread: float = 0.05) -> list[str]:
    """The sentences over a board of these scores, whose resamples all move by the same noise and by their own."""
    rng = np.random.default_rng(0)
    shared, results, resamples = rng.normal(0, 0.1, 1000), [], {}
    for (name, task), test in scores.items():
        result = Result.of(make_record(name, task, test=test, about=about.get(name, {})))
        results.append(result)
        resamples[result.record_id] = Scored(test, test + shared + rng.normal(0, spread, 1000), 20, "same items")
    (board,) = boards(results)
    return findings(board, lambda result: resamples[result.record_id])


def test_an_encoder_is_above_the_controls_where_the_paired_difference_says_so() -> None:
    """By the intervals of the scores alone, which share the hard recordings, every encoder would be in doubt."""
    scores = {
        ("statistics", "bats"): 0.60,
        ("random", "bats"): 0.50,
        ("speech", "bats"): 0.90,
        ("music", "bats"): 0.30,
        ("statistics", "dogs"): 0.40,
        ("random", "dogs"): 0.55,
        ("speech", "dogs"): 0.57,
        ("music", "dogs"): 0.80,
    }
    about = {"statistics": CONTROL, "random": CONTROL, "speech": PRETRAINED, "music": PRETRAINED}
    first, controls, *encoders = said(scores, about)
    assert first == "On bats, speech is first with accuracy 0.900; on dogs, music is first with accuracy 0.800."
    assert controls == "Never pretrained, and so the controls: random and statistics."
    speech, music = encoders
    assert speech.startswith("speech is above the best control on bats (+0.300 [+0.1")
    assert ", and cannot be distinguished from the best control on dogs (+0.020 [−0.1" in speech
    assert speech.endswith("to random).") and "to statistics)" in speech
    assert music.startswith("music is above the best control on dogs (+0.250 [+0.1")
    assert ", and is below the best control on bats (−0.300 [−0.4" in music


def test_equal_scores_are_first_together_and_without_a_control_nothing_is_claimed() -> None:
    found = said({("one", "bats"): 0.5, ("two", "bats"): 0.5001, ("three", "bats"): 0.4}, {"one": PRETRAINED})
    assert found[0] == "On bats, one and two are first with accuracy 0.500."
    assert found[1:] == ["No submission on this board states that it was never pretrained: there is no control."]


def test_a_submission_that_states_nothing_is_neither_pretrained_nor_a_control() -> None:
    scores = {("silent", "bats"): 0.9, ("statistics", "bats"): 0.5}
    assert said(scores, {"statistics": CONTROL})[1:] == ["Never pretrained, and so the controls: statistics."]


def test_one_row_or_a_quick_look_is_no_finding() -> None:
    limited = [Result.of(make_record(name, "bats", limit=20, about=CONTROL)) for name in ("a", "b")]
    (board,) = boards([*limited, Result.of(make_record("c", "bats", about=PRETRAINED))])
    assert findings(board, lambda result: pytest.fail("no resamples are needed")) == []


def planted(home: Home, name: str, right: int, about: dict[str, object]) -> None:
    """Publish a record whose predictions are right for the first ``right`` of 40 recordings."""
    targets = np.arange(40) % 2
    answers = np.where(np.arange(40) < right, targets, 1 - targets)
    test = PredictedScores(
        [f"clip-{number}" for number in range(40)],
        [f"recording-{number}" for number in range(40)],
        np.repeat(np.eye(2, dtype=np.float32)[None, answers], 5, 0),
        targets,
    )
    record = make_record(name, "mine", test=right / 40, group="own", about=about)
    predictions = write_predictions(home.records, record.stem, test)
    path = write_record(home.records, record.model_copy(update={"predictions": predictions}))
    Store(home.database_url).publish_stored(StoredRecord.read(path))


def test_show_in_words_computes_the_sentences_from_the_records(
    beans: Callable[..., tuple[int, str, str]], own_home: Path
) -> None:
    home = Home.from_environment()
    home.records.mkdir(parents=True)
    planted(home, "statistics", 20, CONTROL)
    planted(home, "speech", 36, PRETRAINED)
    code, out, _ = beans("leaderboard", "show", "--in-words")
    assert code == 0 and "On mine, speech is first with accuracy 0.900." in out
    assert "speech has no interval against the best control on mine (statistics)." in out
    assert compute(home.records, silent) == []
    code, out, _ = beans("leaderboard", "show", "--in-words")
    assert code == 0 and "speech is above the best control on mine (+0.400 [+0.2" in out
    assert "On mine" not in beans("leaderboard", "show")[1], "a board of thirty tasks would end in thirty sentences"
