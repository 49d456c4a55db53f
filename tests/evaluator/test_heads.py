"""Any torch module is a head: its probes are those of a plain loop, however many are trained at once."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import write_clips_task
from small_features import CLASSES, ITEMS, LAYERS, WIDTH, make
from test_streaming import Encoder, extracted
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from evaluator.probes.automatic import AutomaticStack, stack_of
from evaluator.probes.fit import fit, predict
from evaluator.probes.head import Head, Stack, random_seed, seeded
from evaluator.probes.heads import HEADS
from evaluator.probes.metrics import score
from leaderboard.records.protocol import Protocol
from tasks.manifest import read_manifest
from tasks.support.errors import UserError
from tasks.task import load_task

CPU = torch.device("cpu")
RATES = [1e-4, 3e-3, 5e-2]
SEEDS = (0, 3)
EPOCHS = 6
PAPERS = Protocol.standard("beans-probe/papers")


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    """In double precision, rounding cannot hide behind 'close enough', nor chaos at high rates blur equality."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Linear(nn.Module):
    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, classes)

    def forward(self, inputs: Tensor, valid: None) -> Tensor:
        return self.linear(inputs)


class AttentionPooling(nn.Module):
    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.attention = nn.Linear(width, 1)
        self.linear = nn.Linear(width, classes)

    def forward(self, inputs: Tensor, valid: Tensor) -> Tensor:
        scores = self.attention(inputs)[..., 0].masked_fill(~valid, -math.inf)
        return self.linear((scores.softmax(1)[..., None] * inputs).sum(1))


class Normalised(Linear):
    """Keeps running statistics in buffers, which each step of training changes."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__(width, classes)
        self.normalise = nn.BatchNorm1d(width)

    def forward(self, inputs: Tensor, valid: None) -> Tensor:
        return self.linear(self.normalise(inputs))


class Perceptron(Linear):
    """Draws random numbers in training."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__(width, classes)
        self.hidden = nn.Linear(width, width)
        self.drop = nn.Dropout(0.4)

    def forward(self, inputs: Tensor, valid: None) -> Tensor:
        return self.linear(self.drop(self.hidden(inputs).relu()))


class Branching(Linear):
    """Looks at values in Python, which `torch.func` cannot follow."""

    def forward(self, inputs: Tensor, valid: None) -> Tensor:
        return self.linear(inputs) * (2 if self.linear.bias.sum() > 0 else 1)


class Aside(Linear):
    """Uses its parameters from a list, as torch's recurrent layers do, where `torch.func` does not replace them."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__(width, classes)
        self.kept = [self.linear.weight, self.linear.bias]

    def forward(self, inputs: Tensor, valid: None) -> Tensor:
        return nn.functional.linear(inputs, *self.kept)


class NormalisedBranching(Normalised):
    """Buffers of a head that runs alone."""

    def forward(self, inputs: Tensor, valid: None) -> Tensor:
        return super().forward(inputs, valid) * (2 if self.linear.bias.sum() > 0 else 1)


class Recurrent(nn.Module):
    """An LSTM, which `torch.func` cannot batch."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(width, 5, batch_first=True)
        self.linear = nn.Linear(5, classes)

    def forward(self, inputs: Tensor, valid: Tensor) -> Tensor:
        outputs, _ = self.recurrent(inputs)
        return self.linear(outputs[torch.arange(len(inputs)), valid.sum(1) - 1])


def head(make_module: Callable[[int, int], nn.Module], *, frames: bool = False) -> Head:
    return Head("mine", "made for a test", "frames" if frames else "vectors", version=1, make=make_module)


def stack(one: Head) -> Stack:
    return stack_of(one, WIDTH, CLASSES, CPU)


def trained(one: Stack, metric: str, **changes: Any) -> Any:
    """All layers, rates and seeds: the fit, and the logits of the validation split."""
    train, held = (make(one.head.reads_frames, metric, seed)[0] for seed in (0, 1))
    rules: dict[str, Any] = {
        "metric": metric, "rates": RATES, "seeds": SEEDS, "protocol": PAPERS,
        "keep": torch.full((LAYERS,), EPOCHS),
    }  # fmt: skip
    found = fit(one, train, held, **{**rules, **changes})  # type: ignore[arg-type]
    assert found.state is not None
    return found, predict(one, found.state, held, len({**rules, **changes}["seeds"]))  # type: ignore[arg-type]


def train_alone(one: Head, metric: str, layer: int, rate: float, seed: int) -> tuple[list[float], Tensor, nn.Module]:
    """The same probe by a plain loop: validation curve, logits of the validation split, and the module."""
    with seeded(random_seed(layer, seed)):
        module = one.make(WIDTH, CLASSES)
    optimiser = torch.optim.Adam(module.parameters(), lr=rate, weight_decay=1e-3)
    order = torch.Generator().manual_seed(seed)
    (samples, frames, counts), (held, held_frames, held_counts) = (
        make(one.reads_frames, metric, number) for number in (0, 1)
    )

    def apply(frames: Tensor, counts: Tensor) -> Tensor:
        valid = torch.arange(frames.shape[1]) < counts[:, None]
        return module(frames, valid) if one.reads_frames else module(frames[:, 0], None)  # type: ignore[no-any-return]

    curve, steps = [], 0
    logits = torch.empty(0)
    for _ in range(EPOCHS):
        module.train()
        for index in torch.randperm(ITEMS, generator=order).split(32):
            steps += 1
            targets = samples.targets[index]  # type: ignore[attr-defined]
            with seeded(random_seed(layer, seed, steps)):
                found = apply(frames[layer, index], counts[index])
            loss = cross_entropy if metric == "accuracy" else binary_cross_entropy_with_logits
            optimiser.zero_grad()
            loss(found, targets).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        module.eval()
        with torch.no_grad():
            logits = apply(held_frames[layer], held_counts)
        curve.append(float(score(metric, logits, held.targets)))  # type: ignore[attr-defined,arg-type]
    return curve, logits, module


NAMES = {"linear.weight": "weight", "linear.bias": "bias", "attention.weight": "attention"}


@pytest.mark.parametrize("metric", ["accuracy", "map"])
@pytest.mark.parametrize(("track", "module"), [("ta", Linear), ("twa", AttentionPooling)])
def test_a_plain_module_gives_the_numbers_of_the_stack_with_its_own_derivative(
    track: str, module: type[nn.Module], metric: str
) -> None:
    """Else a head would score differently for the way in which it is written."""
    fast, plain = stack(HEADS.get(track)), stack(head(module, frames=track == "twa"))
    assert isinstance(plain, AutomaticStack) and not isinstance(fast, AutomaticStack)
    assert plain.together == "all", "it would be trained one after another"
    (expected, logits), (found, plain_logits) = trained(fast, metric), trained(plain, metric)
    torch.testing.assert_close(found.valid, expected.valid, atol=1e-5, rtol=0)
    torch.testing.assert_close(plain_logits, logits, atol=1e-5, rtol=0)
    for ours, theirs in NAMES.items():
        if ours in found.state:
            tensor = found.state[ours].view_as(expected.state[theirs])
            torch.testing.assert_close(tensor, expected.state[theirs], atol=1e-5, rtol=0)


@pytest.mark.parametrize("track", ["ta", "twa"])
def test_the_module_of_a_stack_gives_its_numbers(track: str) -> None:
    """The derivative is written by hand, and the module is what the documents and the benchmarks show."""
    declared = HEADS.get(track)
    plain = Head(track, declared.help, declared.needs, declared.version, declared.make)
    (expected, logits), (found, plain_logits) = (trained(stack(one), "accuracy") for one in (declared, plain))
    torch.testing.assert_close(plain_logits, logits, atol=1e-5, rtol=0)
    for name in ("weight", "bias"):
        torch.testing.assert_close(found.state[name], expected.state[name], atol=1e-5, rtol=0)


@pytest.mark.parametrize("budget", [None, 0], ids=["kept", "streamed"])
def test_frames_that_are_stored_or_streamed_train_a_plain_module_as_they_train_twa(
    tmp_path: Path, budget: int | None
) -> None:
    """Clips of unequal length come in several pieces, which share their memory."""
    torch.set_default_dtype(torch.float32)
    task = read_manifest(load_task(str(write_clips_task(tmp_path / "clips", per_label=10)), data=Path()))
    encoder = Encoder()
    features = extracted(tmp_path / "features", encoder, task, budget)
    assert (features.streamed is None) == (budget is None)
    torch.set_default_dtype(torch.float64)
    train, held = (features.samples(split, (0, 1, 2), CPU, frames=True) for split in ("train", "valid"))  # type: ignore[arg-type]
    lengths = {piece[1].shape[2] for batch in train.batches(torch.arange(24)[None]) for piece in batch.pieces()}
    assert len(lengths) > 1, "all clips are padded to one length"
    results = []
    for one in (HEADS.get("twa"), head(AttentionPooling, frames=True)):
        made = stack_of(one, train.width, 4, CPU)
        found = fit(
            made, train, held, metric="accuracy", rates=RATES, seeds=SEEDS, protocol=PAPERS,
            keep=torch.full((3,), 4),
        )  # fmt: skip
        assert found.state is not None
        results.append((found.valid, predict(made, found.state, held, len(SEEDS))))
    for plain, fast in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(plain, fast, atol=1e-5, rtol=0)


@pytest.mark.parametrize("metric", ["accuracy", "map"])
@pytest.mark.parametrize(
    ("module", "frames", "together"),
    [
        (Linear, False, "all"),
        (Normalised, False, "all"),
        (Perceptron, False, "rates"),
        (Branching, False, "none"),
        (Aside, False, "none"),
        (NormalisedBranching, False, "none"),
        (Recurrent, True, "none"),
    ],
)
def test_a_probe_of_any_head_is_the_probe_that_a_plain_loop_trains(
    module: type[nn.Module], frames: bool, together: str, metric: str
) -> None:
    """Else the search would choose among probes that nobody can reproduce with torch alone."""
    one = head(module, frames=frames)
    made = stack(one)
    assert isinstance(made, AutomaticStack) and made.together == together
    found, logits = trained(made, metric)
    for layer in range(LAYERS):
        for place, seed in enumerate(SEEDS):
            for number, rate in enumerate(RATES):
                curve, alone, probe = train_alone(one, metric, layer, rate, seed)
                assert found.valid[:, layer, place, number].tolist() == pytest.approx(curve, abs=1e-5)
                torch.testing.assert_close(logits[layer, place, number], alone, atol=1e-5, rtol=0)
                for name, tensor in probe.state_dict().items():
                    ours = found.state[name][layer * len(SEEDS) + place, number]
                    torch.testing.assert_close(ours, tensor, atol=1e-5, rtol=0)


def test_random_numbers_do_not_depend_on_what_is_trained_beside_a_probe() -> None:
    """The chosen probe is trained again without the others, and must be the one that validation chose."""
    made = stack(head(Perceptron))
    _, together = trained(made, "accuracy")
    torch.manual_seed(99)
    _, chosen = trained(made, "accuracy", rates=RATES[1:2], seeds=SEEDS[1:])
    torch.testing.assert_close(chosen[:, 0, 0], together[:, 1, 1], atol=1e-9, rtol=0)
    assert (together[:, 0] - together[:, 1]).abs().max() > 1e-3, "seeds make no difference"


def test_training_leaves_torchs_random_state_alone() -> None:
    """Else what is drawn next, such as the weights of a user's model, would depend on the heads before it."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    trained(stack(head(Perceptron)), "accuracy")
    assert torch.equal(torch.rand(3), expected)


def test_a_head_that_torch_func_runs_in_a_loop_says_nothing_of_it(recwarn: pytest.WarningsRecorder) -> None:
    class Attending(AttentionPooling):
        def __init__(self, width: int, classes: int) -> None:
            super().__init__(width, classes)
            self.attention = nn.MultiheadAttention(width, 2, batch_first=True)

        def forward(self, inputs: Tensor, valid: Tensor) -> Tensor:
            query = (inputs.sum(1) / valid.sum(1, keepdim=True))[:, None]
            found, _ = self.attention(query, inputs, inputs, key_padding_mask=~valid, need_weights=False)
            return self.linear(found[:, 0])

    made = stack(head(Attending, frames=True))
    assert isinstance(made, AutomaticStack) and made.together == "all"
    assert not [str(warning.message) for warning in recwarn if "performance" in str(warning.message)]


class _Wrong(Linear):
    def __init__(self, width: int, classes: int) -> None:
        super().__init__(width, classes + 1)


class _Tuple(Linear):
    def forward(self, inputs: Tensor, valid: None) -> Any:
        return inputs, inputs


class _Untrained(nn.Module):
    def __init__(self, width: int, classes: int) -> None:
        super().__init__()

    def forward(self, inputs: Tensor, valid: None) -> Tensor:
        return inputs[:, :CLASSES]


class _Failing(Linear):
    def forward(self, inputs: Tensor, valid: None) -> Tensor:
        return self.linear(inputs[:, 1:])


class _Detached(Linear):
    def forward(self, inputs: Tensor, valid: None) -> Tensor:
        return self.linear(inputs).detach()


class _Mixing(Linear):
    def forward(self, inputs: Tensor, valid: None) -> Tensor:
        return self.linear(inputs - inputs.mean(0))


class _Padded(Linear):
    def forward(self, inputs: Tensor, valid: None) -> Tensor:
        return self.linear(inputs.mean(1))


class _Infinite(Linear):
    def forward(self, inputs: Tensor, valid: None) -> Tensor:
        return self.linear(inputs).log()


@pytest.mark.parametrize(
    ("module", "frames", "says"),
    [
        (_Wrong, False, r"Head mine returns a tensor of shape \(3, 5\) for inputs of shape \(3, 16\): its forward"),
        (_Tuple, False, "Head mine returns tuple for inputs"),
        (_Untrained, False, "Head mine has no parameters to train"),
        (_Failing, False, r"Head mine fails on 3 clips, .*RuntimeError: .*\(.*test_heads\.py, line \d+\)"),
        (_Detached, False, "Head mine fails on 3 clips, .*does not require grad"),
        (_Mixing, False, "gives a clip other logits when other clips share its batch: in evaluation mode"),
        (_Padded, True, "or when frames of padding follow it, which `valid` marks"),
        (_Infinite, False, "Head mine returns logits that are not finite"),
    ],
)
def test_a_head_that_is_wrong_is_one_sentence(module: type[nn.Module], frames: bool, says: str) -> None:
    with pytest.raises(UserError, match=says) as raised:
        stack(head(module, frames=frames))
    assert "\n" not in str(raised.value)
