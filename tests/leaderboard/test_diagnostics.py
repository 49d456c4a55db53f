"""Which classes are confused, which rates are flagged and who is on the front: against scikit-learn and plain loops."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from consistent import write_consistent
from scipy.sparse import csr_array
from sklearn.metrics import average_precision_score, confusion_matrix, recall_score

from evaluator.probes.metrics import average_precision
from evaluator.probes.search import Choice, edge_flags
from leaderboard.records.files import read_record
from leaderboard.records.predictions import PredictedScores, read_predictions
from leaderboard.records.protocol import Protocol
from leaderboard.web import diagnostics
from leaderboard.web.diagnostics import Confusion


def classified(seed: int, *, seeds: int = 3, items: int = 200, classes: int = 7) -> PredictedScores:
    """Scores that lean to the right class; the last class has no items, and some scores are equal."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(classes - 1, size=items)
    scores = rng.integers(0, 4, size=(seeds, items, classes)).astype(np.float32)
    scores[:, np.arange(items), targets] += 1
    return PredictedScores([f"{n}" for n in range(items)], [f"{n}" for n in range(items)], scores, targets)


def detected(seed: int, *, equal: bool) -> PredictedScores:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(3, 150, 5)).astype(np.float32)
    if equal:
        scores = np.round(scores)
    targets = (rng.uniform(size=(150, 5)) < 0.2).astype(np.uint8)
    targets[:, 2] = 0
    return PredictedScores([f"{n}" for n in range(150)], [f"{n}" for n in range(150)], scores, targets)


@pytest.mark.parametrize("seed", range(3))
def test_confusions_are_those_of_scikit_learn_summed_over_seeds(seed: int) -> None:
    test = classified(seed)
    expected = sum(confusion_matrix(test.targets, one.argmax(1), labels=range(7)) for one in test.scores)
    counts = diagnostics.confusion_counts(test)
    found = counts.toarray()
    assert np.array_equal(found, expected), "rows must be the true classes and columns the predicted ones"
    shares = diagnostics.row_shares(found)
    assert np.array_equal(diagnostics.recalls(counts), shares.diagonal(), equal_nan=True)
    recall = np.mean(
        [recall_score(test.targets, one.argmax(1), labels=range(6), average=None) for one in test.scores], axis=0
    )
    assert shares.diagonal()[:6] == pytest.approx(recall)
    assert np.isnan(shares[6]).all(), "a class without items has no recall, and 0 would be a lie"


def test_most_confused_pairs_are_the_largest_off_the_diagonal() -> None:
    test = classified(5)
    pairs = [
        (true, int(guess))
        for scores in test.scores
        for true, guess in zip(test.targets.tolist(), scores.argmax(1), strict=True)
    ]
    counted = {pair: pairs.count(pair) for pair in set(pairs) if pair[0] != pair[1]}
    found = diagnostics.most_confused(diagnostics.confusion_counts(test), most=10)
    assert [pair.count for pair in found] == sorted(counted.values(), reverse=True)[:10]
    for pair in found:
        assert pair.count == counted[pair.true, pair.predicted]
        assert pair.share == pytest.approx(pair.count / sum(true == pair.true for true, _ in pairs))
    matrix = csr_array([[5, 2, 0], [4, 4, 0], [0, 2, 2]])
    assert diagnostics.most_confused(matrix, most=9) == [
        Confusion(1, 0, 4, 0.5),
        Confusion(2, 1, 2, 0.5),
        Confusion(0, 1, 2, 2 / 7),
    ], "of equal counts, the pair that hurts its class more comes first"
    assert diagnostics.most_confused(csr_array(np.diag([3, 4])), most=9) == []


@pytest.mark.parametrize("seed", range(3))
def test_average_precisions_without_equal_scores_are_those_of_scikit_learn(seed: int) -> None:
    test = detected(seed, equal=False)
    found = diagnostics.average_precisions(test)
    for column in (0, 1, 3, 4):
        expected = np.mean([average_precision_score(test.targets[:, column], one[:, column]) for one in test.scores])
        assert found[column] == pytest.approx(expected, abs=1e-9)
    assert found[2] == 0, "BEANS counts a class without positives as 0"


def test_average_precisions_of_equal_scores_keep_the_order_of_items() -> None:
    """BEANS sorts; scikit-learn takes equal scores together and differs here."""
    test = detected(7, equal=True)
    for column in range(5):
        of_seeds = []
        for scores in test.scores:
            hits, precisions = 0, []
            for rank, item in enumerate(sorted(range(150), key=lambda item: -scores[item, column]), start=1):
                if test.targets[item, column]:
                    hits += 1
                    precisions.append(hits / rank)
            of_seeds.append(sum(precisions) / len(precisions) if precisions else 0.0)
        assert diagnostics.average_precisions(test)[column] == pytest.approx(np.mean(of_seeds), abs=1e-12)


@pytest.mark.parametrize("equal", [True, False])
def test_a_page_shows_the_average_precisions_that_the_score_is_the_mean_of(equal: bool) -> None:
    test = detected(3, equal=equal)
    scored = average_precision(torch.from_numpy(test.scores), torch.from_numpy(test.targets)).mean(0)
    assert diagnostics.average_precisions(test) == pytest.approx(scored.numpy(), abs=1e-6)


def test_a_page_needs_no_torch_to_compute_average_precisions() -> None:
    """It takes seconds to import, and the server of the pages may not have it."""
    code = (
        "import sys, numpy as np\n"
        "from leaderboard.web import diagnostics\n"
        "from leaderboard.records.predictions import PredictedScores\n"
        "test = PredictedScores(['a', 'b'], ['a', 'b'], np.array([[[1.], [2.]]], 'f4'), np.array([[1], [0]], 'u1'))\n"
        "print(diagnostics.average_precisions(test), 'torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["[0.5]", "False"]


def test_classes_add_up_to_the_score_of_the_record(tmp_path: Path) -> None:
    """Otherwise a page would show classes that belong to another result than the score above them."""
    record = read_record(write_consistent(tmp_path, kind="detection"))
    found = diagnostics.average_precisions(read_predictions(tmp_path, record))
    assert found.mean() == pytest.approx(record.test, abs=1e-12)
    record = read_record(write_consistent(tmp_path, kind="classification"))
    matrix = diagnostics.confusion_counts(read_predictions(tmp_path, record))
    assert matrix.trace() / matrix.sum() == pytest.approx(record.test, abs=1e-12)


@pytest.mark.parametrize(
    "protocol",
    [
        Protocol(),
        Protocol(lr_low=1e-6, lr_high=1e-2, trials=4),
        Protocol(grid=(1e-5, 5e-5, 1e-4)),
        Protocol(grid=(1e-4, 1e-5), precision="bf16"),
    ],
)
def test_shaded_edges_are_where_the_evaluator_flags_a_rate(protocol: Protocol) -> None:
    """Beside the shading a reader sees the flag; one without the other would be wrong."""
    searched = diagnostics.searched_rates(protocol.name)
    assert searched is not None
    lower, upper = diagnostics.edges(*searched)
    for rate in np.geomspace(*searched, 997):
        flags = edge_flags(Choice(layer=0, lr=float(rate), epoch=1, valid=0.5), protocol)
        if not np.isclose(rate, (lower, upper), rtol=1e-9).any():
            assert flags == ["lr-at-lower-edge"] * bool(rate < lower) + ["lr-at-upper-edge"] * bool(rate > upper)


@pytest.mark.parametrize(
    "protocol",
    [
        "beans-probe/3",
        "beans-probe/2+grid=0.001",
        "beans-probe/2+grid=a,b",
        "beans-probe/2+lr_low=0",
        "beans-probe/2+lr_high=nan",
        "beans-probe/2+lr_high=inf",
    ],
)
def test_no_range_is_made_up_where_the_name_does_not_tell(protocol: str) -> None:
    assert diagnostics.searched_rates(protocol) is None


def test_front_is_who_nobody_beats() -> None:
    """Few different numbers, so that many points are equal in one or both."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        points = {f"p{n}": tuple(map(float, rng.integers(0, 5, 2))) for n in range(int(rng.integers(0, 8)))}

        def beaten(name: str, points: dict[str, tuple[float, ...]] = points) -> bool:
            cost, gain = points[name]
            return any(c <= cost and g >= gain and (c, g) != (cost, gain) for c, g in points.values())

        found = diagnostics.pareto_front(points)  # type: ignore[arg-type]
        assert sorted(found) == sorted(name for name in points if not beaten(name))
        assert [points[name][0] for name in found] == sorted(points[name][0] for name in found)
