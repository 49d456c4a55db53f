"""Thousands of probes in one batch must be the very probes that a plain loop would train."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from small_features import CLASSES, FRAMES, ITEMS, LAYERS, WIDTH, FrameSamples, make
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from evaluator.features.samples import Pooled
from evaluator.probes.automatic import stack_of
from evaluator.probes.fit import fit, predict
from evaluator.probes.head import Stack
from evaluator.probes.heads import HEADS
from evaluator.probes.metrics import loss, score
from leaderboard.records.protocol import Protocol

RATES = [1e-4, 3e-3, 5e-2]
RULES = {name: Protocol.standard(f"beans-probe/{name}") for name in ("2", "papers")}
# Not the highest rates of version 2: their training magnifies a difference in the last digits.
RATES_OF = {"2": [1e-2, 0.1, 0.5], "papers": RATES}


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    """In double precision, rounding cannot hide behind 'close enough', nor chaos at high rates blur equality."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def stack(track: str) -> Stack:
    return stack_of(HEADS.get(track), WIDTH, CLASSES, torch.device("cpu"))


class PlainProbe(torch.nn.Module):
    """The head as the protocol writes it, one clip at a time."""

    def __init__(self, track: str, layer: int, seed: int) -> None:
        super().__init__()
        values = stack(track).initial(layer, seed)
        self.linear = torch.nn.Linear(WIDTH, CLASSES)
        self.linear.load_state_dict({"weight": values["weight"], "bias": values["bias"]})
        self.attention = torch.nn.Linear(WIDTH, 1) if track == "twa" else None
        if self.attention is not None:
            self.attention.load_state_dict({"weight": values["attention"][None], "bias": values["attention_bias"]})

    def forward(self, clips: list[Tensor]) -> Tensor:
        pooled = []
        for frames in clips:
            if self.attention is None:
                pooled.append(frames.mean(0))
            else:
                pooled.append((self.attention(frames)[:, 0].softmax(0)[:, None] * frames).sum(0))
        return self.linear(torch.stack(pooled))


def train_alone(
    track: str, metric: str, layer: int, rate: float, seed: int, epochs: int, rules: str
) -> tuple[list[float], PlainProbe]:
    samples, frames, counts = make(track == "twa", metric, 0)
    held, held_frames, held_counts = make(track == "twa", metric, 1)
    probe = PlainProbe(track, layer, seed)
    penalty = 1e-3 if rules == "papers" else 1e-6 / rate**2
    groups = [{"params": probe.linear.parameters(), "lr": rate, "weight_decay": penalty}]
    if probe.attention is not None:
        share = 1.0 if rules == "papers" else 0.03
        groups.append({"params": probe.attention.parameters(), "lr": rate * share, "weight_decay": penalty / share**2})
    optimiser = torch.optim.Adam(groups)
    steps = 100 * math.ceil(ITEMS / 32)
    cosine = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: (1 + math.cos(math.pi * step / steps)) / 2)
    order = torch.Generator().manual_seed(seed)
    curve = []
    for _ in range(epochs):
        for index in torch.randperm(ITEMS, generator=order).split(32):
            logits = probe([frames[layer, i, : counts[i]] for i in index.tolist()])
            targets = samples.targets[index]  # type: ignore[attr-defined]
            objective = (
                cross_entropy(logits, targets)
                if metric == "accuracy"
                else binary_cross_entropy_with_logits(logits, targets)
            )
            optimiser.zero_grad()
            objective.backward()
            optimiser.step()
            if rules == "2":
                cosine.step()
        with torch.no_grad():
            logits = probe([held_frames[layer, i, : held_counts[i]] for i in range(ITEMS)])
        curve.append(float(score(metric, logits, held.targets)))  # type: ignore[attr-defined,arg-type]
    return curve, probe


@pytest.mark.parametrize("metric", ["accuracy", "map"])
@pytest.mark.parametrize("track", ["ta", "twa"])
@pytest.mark.parametrize("rules", ["2", "papers"])
def test_a_probe_in_the_batch_is_the_probe_trained_alone(track: str, metric: str, rules: str) -> None:
    """Otherwise the search would choose among probes that nobody can reproduce one at a time."""
    train, held = make(track == "twa", metric, 0)[0], make(track == "twa", metric, 1)[0]
    epochs, seeds = 12, (0, 3)
    found = fit(
        stack(track),
        train,  # type: ignore[arg-type]
        held,  # type: ignore[arg-type]
        metric=metric,  # type: ignore[arg-type]
        rates=RATES_OF[rules],
        seeds=seeds,
        protocol=RULES[rules],
        keep=torch.full((LAYERS,), epochs),
        every_epoch=True,
    )
    assert found.state is not None
    logits = predict(stack(track), found.state, held, len(seeds))  # type: ignore[arg-type]
    _, frames, counts = make(track == "twa", metric, 1)
    for layer in range(LAYERS):
        for place, seed in enumerate(seeds):
            for number, rate in enumerate(RATES_OF[rules]):
                curve, probe = train_alone(track, metric, layer, rate, seed, epochs, rules)
                assert found.valid[:, layer, place, number].tolist() == pytest.approx(curve, abs=1e-5)
                group = layer * len(seeds) + place
                torch.testing.assert_close(
                    found.state["weight"][group, number], probe.linear.weight.detach(), atol=1e-5, rtol=0
                )
                with torch.no_grad():
                    alone = probe([frames[layer, i, : counts[i]] for i in range(ITEMS)])
                torch.testing.assert_close(logits[layer, place, number], alone, atol=1e-5, rtol=0)


def test_in_single_precision_batch_and_alone_agree_too() -> None:
    """What runs is float32; at a rate that does not amplify rounding it must agree as well."""
    torch.set_default_dtype(torch.float32)
    train, held = make(False, "accuracy", 0)[0], make(False, "accuracy", 1)[0]
    found = fit(
        stack("ta"), train, held, metric="accuracy", rates=[1e-3], seeds=(0,),  # type: ignore[arg-type]
        protocol=RULES["papers"], keep=torch.full((LAYERS,), 10),
    )  # fmt: skip
    assert found.state is not None
    _, probe = train_alone("ta", "accuracy", 1, 1e-3, 0, 10, "papers")
    torch.testing.assert_close(found.state["weight"][1, 0], probe.linear.weight.detach(), atol=1e-5, rtol=0)


def test_a_probe_that_does_not_improve_stops_after_the_patience_and_the_others_go_on() -> None:
    train, held = make(False, "accuracy", 0)[0], make(False, "accuracy", 1)[0]
    rules = replace(RULES["papers"], epochs=40, patience=5)
    found = fit(
        stack("ta"), train, held, metric="accuracy",  # type: ignore[arg-type]
        rates=[1e-9, 1e-2], seeds=(0,), protocol=rules,
    )  # fmt: skip
    idle = found.valid[:, 0, 0, 0]
    assert torch.isfinite(idle[: 1 + 5]).all() and torch.isnan(idle[1 + 5 :]).all()
    for probe in (found.valid[:, layer, 0, 1] for layer in range(LAYERS)):
        ran = int(torch.isfinite(probe).sum())
        best_at = int(probe[:ran].argmax())
        assert ran == min(best_at + 1 + 5, len(probe))


def test_the_best_epoch_is_the_first_that_reached_the_best_value() -> None:
    train, held = make(False, "accuracy", 0)[0], make(False, "accuracy", 1)[0]
    found = fit(
        stack("ta"), train, held, metric="accuracy",  # type: ignore[arg-type]
        rates=RATES, seeds=(0,), protocol=replace(RULES["papers"], epochs=30),
    )  # fmt: skip
    values, epochs = found.best()
    curve = [value for value in found.valid[:, 1, 0, 2].tolist() if not math.isnan(value)]
    assert float(values[1, 0, 2]) == max(curve)
    assert int(epochs[1, 0, 2]) == curve.index(max(curve)) + 1


def test_without_patience_the_last_epoch_counts_and_only_that_one_looks_at_validation() -> None:
    """The best of many epochs is luck, and every further look makes the validation score more optimistic."""
    train, held = make(False, "accuracy", 0)[0], make(False, "accuracy", 1)[0]
    arguments = {"metric": "accuracy", "rates": RATES_OF["2"], "seeds": (0,), "protocol": Protocol(epochs=8)}
    found = fit(stack("ta"), train, held, **arguments)  # type: ignore[arg-type]
    assert torch.isnan(found.valid[:-1]).all() and torch.isfinite(found.valid[-1]).all()
    values, epochs = found.best()
    assert epochs.eq(8).all()
    watched = fit(stack("ta"), train, held, every_epoch=True, **arguments)  # type: ignore[arg-type]
    assert torch.isfinite(watched.valid).all() and torch.equal(watched.valid[-1], values)


@pytest.mark.parametrize("metric", ["accuracy", "map"])
def test_the_loss_is_that_of_torch(metric: str) -> None:
    """It breaks the ties between learning rates."""
    held = make(False, metric, 1)[0]
    logits = torch.randn(2, 3, ITEMS, CLASSES)
    reference = cross_entropy if metric == "accuracy" else binary_cross_entropy_with_logits
    expected = [[float(reference(one, held.targets)) for one in row] for row in logits]  # type: ignore[attr-defined]
    assert loss(metric, logits, held.targets).tolist() == [pytest.approx(row, abs=1e-12) for row in expected]  # type: ignore[attr-defined,arg-type]


@pytest.mark.parametrize("rules", ["2", "papers"])
def test_retraining_to_an_epoch_gives_the_probe_that_the_search_saw(rules: str) -> None:
    """The chosen probe is retrained for the test; it must be the one that validation chose."""
    train, held = make(True, "map", 0)[0], make(True, "map", 1)[0]
    common = {"metric": "map", "protocol": replace(RULES[rules], epochs=15)}
    searched = fit(
        stack("twa"),
        train,
        held,
        rates=RATES,
        seeds=(0,),
        **common,  # type: ignore[arg-type]
    )
    values, epochs = searched.best()
    keep = epochs[:, 0, 1]
    again = fit(
        stack("twa"),
        train,
        held,
        rates=[RATES[1]],
        seeds=(0,),
        keep=keep,
        **common,  # type: ignore[arg-type]
    )
    assert again.state is not None
    logits = predict(stack("twa"), again.state, held, 1)  # type: ignore[arg-type]
    scores = score("map", logits, held.targets)[:, 0, 0]  # type: ignore[attr-defined]
    torch.testing.assert_close(scores, values[:, 0, 1], atol=1e-9, rtol=0)


class Multiplied(TorchDispatchMode):
    """Remembers the smallest number above 0 that any product was given."""

    smallest = math.inf

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.overloadpacket in (torch.ops.aten.bmm, torch.ops.aten.baddbmm):
            for tensor in args:
                self.smallest = min([self.smallest, *tensor[tensor != 0].abs().flatten().tolist()])
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("track", "metric"), [("ta", "accuracy"), ("ta", "map"), ("twa", "accuracy")])
def test_probes_that_are_sure_multiply_no_denormal_numbers(track: str, metric: str) -> None:
    """With which processors take up to twenty times as long: searches of high rates would crawl."""
    torch.set_default_dtype(torch.float32)
    generator = torch.Generator().manual_seed(0)
    targets: Tensor = torch.arange(64) % CLASSES
    frames = 300 * torch.nn.functional.one_hot(targets, WIDTH)[None, :, None].float()
    frames = (frames + 30 * torch.randn(1, 64, FRAMES, WIDTH, generator=generator)).contiguous()
    if metric == "map":
        targets = torch.nn.functional.one_hot(targets, CLASSES).float()
    samples = Pooled(frames.mean(2).transpose(0, 1).contiguous(), targets, [0])
    if track == "twa":
        samples = FrameSamples(frames, torch.full((64,), FRAMES), targets)  # type: ignore[assignment]
    with Multiplied() as seen:
        fit(
            stack(track), samples, samples, metric=metric,  # type: ignore[arg-type]
            rates=[1e-1], seeds=(0,), protocol=replace(RULES["papers"], epochs=5),
        )  # fmt: skip
    assert seen.smallest >= torch.finfo(torch.float32).tiny


def test_padding_frames_get_no_weight() -> None:
    train, frames, counts = make(True, "accuracy", 0)
    spoiled = frames.clone()
    spoiled[(torch.arange(FRAMES) >= counts[:, None]).expand(LAYERS, -1, -1)] = 1e6
    singles = [stack("twa").initial(layer, 0) for layer in range(LAYERS)]
    state = {name: torch.stack([single[name] for single in singles])[:, None] for name in singles[0]}
    clean = predict(stack("twa"), state, train, 1)  # type: ignore[arg-type]
    dirty = predict(stack("twa"), state, FrameSamples(spoiled, counts, train.targets), 1)  # type: ignore[attr-defined]
    torch.testing.assert_close(clean, dirty)
