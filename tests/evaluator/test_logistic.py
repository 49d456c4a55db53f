"""Converged logistic regression: the optimum that every record compares its probe with."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from evaluator.probes import logistic
from evaluator.probes.logistic import STRENGTHS, logistic_regression

Split = tuple[Tensor, Tensor]


def drawn(metric: str, items: int, seed: int, width: int = 12, classes: int = 3) -> Split:
    """Vectors of unit variance whose class means differ by less than their deviation."""
    generator = np.random.default_rng(seed)
    means = np.random.default_rng(9).normal(size=(classes, width))
    if metric == "accuracy":
        targets = generator.integers(classes, size=items)
        vectors = means[targets] * 0.6 + generator.normal(size=(items, width))
        return torch.from_numpy(vectors), torch.from_numpy(targets)
    present = generator.random((items, classes)) < 0.3
    vectors = present @ means * 0.6 + generator.normal(size=(items, width))
    return torch.from_numpy(vectors), torch.from_numpy(present).float()


def sklearn(metric: str, strength: float, train: Split) -> tuple[np.ndarray, np.ndarray]:
    """Weights and biases of scikit-learn; of a detection task one regression per class."""
    model = LogisticRegression(C=strength, tol=1e-9, max_iter=10_000)
    vectors, targets = train[0].numpy(), train[1].numpy()
    if metric == "accuracy":
        model.fit(vectors, targets)
        return model.coef_, model.intercept_
    fitted = [model.fit(vectors, column).coef_[0].tolist() + model.intercept_.tolist() for column in targets.T]
    return np.array(fitted)[:, :-1], np.array(fitted)[:, -1]


@pytest.mark.parametrize("metric", ["accuracy", "map"])
def test_it_is_scikit_learns_at_every_strength(metric: str) -> None:
    """A regression that has not converged would excuse a probe that has not."""
    train = drawn(metric, 80, 0)
    found = list(logistic._path(metric, *train))  # type: ignore[arg-type]
    assert [strength for strength, _, _ in found] == list(STRENGTHS)
    for strength, weight, bias in found:
        weights, biases = sklearn(metric, strength, train)
        # Adding one number to the biases of all classes changes no softmax.
        shift = bias.numpy().mean() - biases.mean() if metric == "accuracy" else 0.0
        np.testing.assert_allclose(weight, weights, atol=2e-3 * max(1, np.abs(weights).max()))
        np.testing.assert_allclose(bias.numpy() - shift, biases, atol=2e-3 * max(1, np.abs(biases).max()))


def test_validation_chooses_and_ties_go_to_the_stronger_penalty() -> None:
    train, valid, test = (drawn("accuracy", items, seed) for items, seed in ((60, 0), (40, 1), (500, 2)))
    found = logistic_regression("accuracy", train, valid, test)
    scores = {}
    for strength in STRENGTHS:
        weights, biases = sklearn("accuracy", strength, train)
        scores[strength] = [
            float(np.mean((vectors.numpy() @ weights.T + biases).argmax(1) == targets.numpy()))
            for vectors, targets in (valid, test)
        ]
    best = max(scores, key=lambda strength: (scores[strength][0], -strength))
    assert (found.strength, [found.valid, found.test]) == (best, scores[best])


@pytest.mark.parametrize("metric", ["accuracy", "map"])
def test_more_dimensions_than_items_constant_dimensions_and_one_item_per_class(metric: str) -> None:
    """Few-shot tasks are such; the reference must exist for them too."""
    vectors = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 40)))
    vectors[:, :5] = 0
    targets = torch.arange(3) if metric == "accuracy" else torch.eye(3)
    found = logistic_regression(metric, (vectors, targets), (vectors, targets), (vectors, targets))  # type: ignore[arg-type]
    assert (found.valid, found.test, found.strength) == (1.0, 1.0, STRENGTHS[0])


def test_a_class_that_train_does_not_contain_is_never_predicted() -> None:
    """A task may have labels that only the test split contains."""
    train = drawn("accuracy", 30, 0, classes=2)
    test = train[0], torch.full_like(train[1], 2)
    assert logistic_regression("accuracy", train, train, test).test == 0.0


@pytest.mark.parametrize("metric", ["accuracy", "map"])
def test_a_task_that_is_too_large_gets_no_regression(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 classes took 3 GB and hours, 100,000 ended with a traceback after the training."""
    split = drawn(metric, 40, 0)
    monkeypatch.setattr(logistic, "MOST_SCORES", 40 * 3)
    assert logistic_regression(metric, split, split, split) is not None
    monkeypatch.setattr(logistic, "MOST_SCORES", 40 * 3 - 1)
    assert logistic_regression(metric, split, split, split) is None
