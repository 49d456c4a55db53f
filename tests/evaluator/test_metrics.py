"""Scores that readers will cite: each against scikit-learn or a few-line transcription of the rule."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, average_precision_score, balanced_accuracy_score, f1_score

from evaluator.probes.metrics import average_precision, bootstrap_interval, score, secondary
from leaderboard.ranking import bootstrap


def beans_average_precision(scores: np.ndarray, targets: np.ndarray) -> float:
    """BEANS' rule, written out: the mean of the precision at each positive, 0 without positives."""
    hits, precisions = 0, []
    for rank, item in enumerate(sorted(range(len(scores)), key=lambda i: -scores[i]), start=1):
        if targets[item]:
            hits += 1
            precisions.append(hits / rank)
    return float(np.mean(precisions)) if precisions else 0.0


def test_map_equals_scikit_learn_where_no_scores_are_tied() -> None:
    generator = np.random.default_rng(0)
    scores = generator.permutation(200 * 7).reshape(200, 7).astype(np.float32)
    targets = (generator.random((200, 7)) < 0.2).astype(np.uint8)
    ours = average_precision(torch.from_numpy(scores), torch.from_numpy(targets))
    theirs = [average_precision_score(targets[:, c], scores[:, c]) for c in range(7)]
    assert ours.numpy() == pytest.approx(theirs, abs=1e-6)


def test_a_class_without_positives_counts_zero_and_stays_in_the_mean() -> None:
    scores = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    targets = torch.tensor([[1, 0], [0, 0]])
    assert average_precision(scores, targets).tolist() == [1.0, 0.0]
    assert float(score("map", scores, targets)) == 0.5


@given(st.integers(1, 30), st.integers(1, 4), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_map_is_beans_rule_for_any_scores_ties_included(items: int, classes: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 4, (items, classes)).astype(np.float32)
    targets = generator.integers(0, 2, (items, classes)).astype(np.uint8)
    ours = average_precision(torch.from_numpy(scores), torch.from_numpy(targets))
    theirs = [beans_average_precision(scores[:, c], targets[:, c]) for c in range(classes)]
    assert ours.numpy() == pytest.approx(theirs, abs=1e-6)


def test_every_probe_of_a_batch_gets_its_own_score() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 2, 40, 5, generator=generator)
    classes = torch.randint(0, 5, (40,), generator=generator)
    many = (torch.rand(40, 5, generator=generator) < 0.3).to(torch.uint8)
    for layer in range(3):
        for probe in range(2):
            alone = logits[layer, probe]
            assert float(score("accuracy", logits, classes)[layer, probe]) == pytest.approx(
                accuracy_score(classes, alone.argmax(-1))
            )
            assert float(score("map", logits, many)[layer, probe]) == pytest.approx(
                np.mean([beans_average_precision(alone[:, c].numpy(), many[:, c].numpy()) for c in range(5)]), abs=1e-6
            )


def test_equal_shares_of_right_answers_are_equal_numbers() -> None:
    """Float noise in a score would decide between layers that are tied."""
    targets = torch.zeros(10, dtype=torch.long)
    logits = torch.tensor([[1.0, 0.0]]).repeat(10, 1)
    logits[:4] = logits[:4].flip(1)
    assert float(score("accuracy", logits, targets)) == 0.6


def test_secondary_metrics_equal_scikit_learn() -> None:
    generator = np.random.default_rng(1)
    scores = generator.standard_normal((2, 60, 4)).astype(np.float32)
    targets = generator.integers(0, 4, 60)
    found = secondary("accuracy", scores, targets)
    predicted = scores.argmax(-1)
    assert found["balanced_accuracy"] == pytest.approx(
        np.mean([balanced_accuracy_score(targets, p) for p in predicted])
    )
    assert found["macro_f1"] == pytest.approx(np.mean([f1_score(targets, p, average="macro") for p in predicted]))
    many = (generator.random((60, 4)) < 0.3).astype(np.uint8)
    many[:, 3] = 0
    present = secondary("map", scores, many)["map_present_classes"]
    expected = np.mean([[average_precision_score(many[:, c], s[:, c]) for c in range(3)] for s in scores])
    assert present == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("metric", ["accuracy", "map"])
def test_the_interval_is_what_resampling_recordings_by_hand_gives(metric: str) -> None:
    """The fast interval must equal building every resample item by item."""
    generator = np.random.default_rng(2)
    recordings = [f"r{number // 5}" for number in range(60)]
    scores = generator.standard_normal((2, 60, 3)).astype(np.float32)
    targets = (
        generator.integers(0, 3, 60) if metric == "accuracy" else (generator.random((60, 3)) < 0.3).astype(np.uint8)
    )
    low, high = bootstrap_interval(metric, scores, targets, recordings, resamples=50, seed=3)

    draws = np.random.default_rng(3)
    values = []
    members = [[i for i, name in enumerate(recordings) if name == group] for group in sorted(set(recordings))]
    for _ in range(50):
        # In order of items, each repeated in place, which is how the fast version breaks ties between copies.
        counts = np.bincount(draws.integers(12, size=12), minlength=12)
        items = sorted(item for group, count in enumerate(counts) for item in members[group] * count)
        if metric == "accuracy":
            values.append(np.mean([accuracy_score(targets[items], s[items].argmax(-1)) for s in scores]))
        else:
            values.append(
                np.mean(
                    [[beans_average_precision(s[items][:, c], targets[items][:, c]) for c in range(3)] for s in scores]
                )
            )
    assert (low, high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=1e-6)


def test_items_of_one_recording_widen_the_interval() -> None:
    """Counting a recording's 20 windows as 20 independent items would promise certainty that is not there."""
    generator = np.random.default_rng(4)
    right = np.repeat(generator.random(10) < 0.5, 20)
    scores = np.stack([right, ~right], axis=-1).astype(np.float32)[None]
    targets = np.zeros(200, dtype=np.int64)
    together = bootstrap_interval("accuracy", scores, targets, [f"r{i // 20}" for i in range(200)], resamples=500)
    apart = bootstrap_interval("accuracy", scores, targets, [f"r{i}" for i in range(200)], resamples=500)
    assert together[1] - together[0] > 2 * (apart[1] - apart[0])


def test_classes_that_are_ranked_again_for_each_block_give_the_same_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rankings of 10,000 classes are too large to keep."""
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(2, 60, 4)).astype(np.float32)
    targets = (generator.random((60, 4)) < 0.3).astype(np.uint8)
    recordings = [f"{item // 3}" for item in range(60)]
    kept = bootstrap.resampled("map", scores, targets, recordings, resamples=600, seed=0)
    monkeypatch.setattr(bootstrap, "MOST_RANKED", 0)
    assert np.array_equal(bootstrap.resampled("map", scores, targets, recordings, resamples=600, seed=0), kept)
