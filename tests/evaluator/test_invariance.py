"""A score measures what a representation tells, and not the unit in which a layer writes it."""

import shutil
from pathlib import Path

import pytest
from builders import write_clips_task, write_submission, write_windows_task

from evaluator import Protocol, evaluate
from evaluator.probes.heads import HEADS
from leaderboard.records.stored import StoredRecord

# Three layers of two widths and hops from a fixed random network; `change` is what a test does to their values.
MODEL = """
import torch
from evaluator.backbone import Layer


def change(output):
    {change}


class Model:
    sample_rate, layers = 16_000, [Layer("first", 24), Layer("second", 24), Layer("third", 12)]

    def __init__(self):
        drawn = torch.Generator().manual_seed(0)
        sizes = ((400, 24), (24, 24), (24, 12))
        self.weights = [torch.randn(*size, generator=drawn) / size[0] ** 0.5 for size in sizes]

    def encode(self, waveforms, lengths):
        frames = waveforms.unfold(1, 400, 320) * 3
        outputs = []
        for weight in self.weights:
            frames = torch.relu(frames @ weight) if len(outputs) < 2 else torch.tanh(frames @ weight)
            outputs.append(change(frames))
        return outputs, (lengths - 400) // 320 + 1
"""
PER_CHANNEL = """drawn = torch.Generator().manual_seed(output.shape[-1])
    factor = 10 ** (4 * torch.rand(output.shape[-1], generator=drawn) - 2)
    return output * factor + 20 * factor * torch.randn(output.shape[-1], generator=drawn)"""
CHANGES = {
    "as it is": "return output",
    "times 1000": "return output * 1000",
    "times 0.001": "return output * 0.001",
    "each channel by its own factor and offset": PER_CHANNEL,
}
# Of the suite, those added later too.
TRACKS = tuple(name for name in HEADS.names() if HEADS.distribution(name) is None)
PAPERS = Protocol.standard("beans-probe/papers")
RULES = Protocol(trials=6, seeds=2, epochs=40)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> dict[tuple[str, str, str], StoredRecord]:
    """By change, task and track."""
    directory = tmp_path_factory.mktemp("invariance")
    home = directory / "home"
    home.mkdir()
    shutil.copy(empty_database, home / "mlflow.db")
    tasks = [write_clips_task(directory / "hard", "hard", per_label=25, noise=0.7)]
    tasks.append(write_windows_task(directory / "calls", "calls", noise=1.0))
    found = {}
    for number, (change, code) in enumerate(CHANGES.items()):
        (directory / f"model{number}.py").write_text(MODEL.format(change=code))
        submission = write_submission(
            directory / f"m{number}.toml", f'loader = "python"\ntarget = "model{number}:Model"'
        )
        for stored in evaluate(submission, tasks, TRACKS, RULES, home=home, device="cpu"):
            found[change, stored.record.task.name, stored.record.track] = stored
        if change in ("as it is", "times 0.001"):
            (stored,) = evaluate(submission, tasks[0], "ta", PAPERS, home=home, device="cpu")
            found[change, "papers", "ta"] = stored
    return found


@pytest.mark.parametrize("track", TRACKS)
@pytest.mark.parametrize("task", ["hard", "calls"])
@pytest.mark.parametrize("change", [change for change in CHANGES if change != "as it is"])
def test_a_factor_or_an_offset_changes_no_score_and_no_chosen_layer(
    records: dict[tuple[str, str, str], StoredRecord], change: str, task: str, track: str
) -> None:
    """Activations grow with depth and differ between encoders: ranks and layer curves would show that instead."""
    expected, found = records["as it is", task, track].record, records[change, task, track].record
    assert found.best_layer == expected.best_layer
    for one, other in zip(found.layers, expected.layers, strict=True):
        assert (one.valid, one.test) == pytest.approx((other.valid, other.test), abs=0.002)
    assert found.test_seeds == pytest.approx(expected.test_seeds, abs=0.002)
    assert found.reference is not None and expected.reference is not None
    assert found.reference.test == pytest.approx(expected.reference.test, abs=0.002)


def test_the_scores_that_must_not_change_are_neither_chance_nor_perfect(
    records: dict[tuple[str, str, str], StoredRecord],
) -> None:
    """Else every change of scale would leave them as they are."""
    for (change, task, track), stored in records.items():
        if change == "as it is" and task != "papers":
            assert 0.3 < stored.record.test < 0.98, (task, track, stored.record.test)


def test_under_the_papers_rules_a_factor_changes_the_scores(
    records: dict[tuple[str, str, str], StoredRecord],
) -> None:
    """The reason for the standard; and the tests above would notice a standard that depends on scale."""
    one, other = (records[change, "papers", "ta"].record for change in ("as it is", "times 0.001"))
    assert max(abs(a.test - b.test) for a, b in zip(one.layers, other.layers, strict=True)) > 0.03
