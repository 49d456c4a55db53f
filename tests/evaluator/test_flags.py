"""beans submit warns about a result that must be read with care, also when the result exists already."""

import json
from pathlib import Path

import pytest
from builders import Run

from evaluator.cli.submit import _summarise
from evaluator.results.outcome import Outcome
from leaderboard.records.files import read_record
from leaderboard.records.flags import EDGES, FLAGS

QUICK = ("--trials", 2, "--seeds", 1, "--device", "cpu")


def test_each_flag_is_a_warning_also_for_a_result_that_exists(
    beans: Run, statistics: Path, clips_task: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task has twelve recordings in validation, so the choice of the layer is hardly one."""
    monkeypatch.setattr("evaluator.cli.console._LOG_WIDTH", 300)
    for reused in (False, True):
        code, out, err = beans("submit", statistics, "--tasks", clips_task, *QUICK, "--json")
        assert code == 0, err
        (row,) = (json.loads(line) for line in out.splitlines() if line.startswith("{"))
        assert row["reused"] is reused
        assert "few-validation-recordings" in row["flags"], "programs read the names"
        for flag in row["flags"]:
            assert FLAGS[flag] in " ".join(err.split())
    record = read_record(Path(row["record"]))
    assert record.selection is not None and record.reference is not None
    assert row["layers_alike"] == record.selection.alike
    stated = (row["looks"], row["valid_recordings"], row["optimism"], row["reference"]["test"])
    chosen = record.selection
    assert stated == (chosen.looks, chosen.recordings, chosen.optimism, record.reference.test)

    def table(flags: list[str]) -> str:
        selection = chosen.model_copy(update={"alike": [0, 1]})
        shown = record.model_copy(update={"flags": flags, "selection": selection, "best_layer": 1})
        capfd.readouterr()
        _summarise([Outcome("statistics", "tones", "ta", shown)])
        return capfd.readouterr().out

    assert "1 (0-1) of 0 to" in table([])
    assert "(edge)" not in table(["few-validation-recordings", "undertrained"]), "the rate is not at an edge"
    for edge in EDGES:
        assert "(edge)" in table(["undertrained", edge])
