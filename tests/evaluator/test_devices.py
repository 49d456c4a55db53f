"""Where every tensor of a search lies on a machine with a GPU, by torch's fake tensors: tests rarely meet a GPU."""

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch._subclasses.fake_tensor import unset_fake_temporarily

from evaluator.features.samples import Frames, Pooled, Samples
from evaluator.features.scale import Scale
from evaluator.probes import fit as probes
from evaluator.probes.automatic import stack_of
from evaluator.probes.head import Step
from evaluator.probes.heads import HEADS
from evaluator.probes.metrics import score
from leaderboard.records.protocol import Protocol

GPU = torch.device("cuda", 0)
LAYERS, ITEMS, CLASSES, WIDTH, FRAMES, RATES, SETS = 3, 20, 5, 8, 6, 4, 2
ROOM, NO_ROOM = 10**12, 10


def samples_of(track: str, targets: torch.Tensor, resident: bool) -> Samples:
    layers = range(LAYERS)
    if track == "ta":
        return Pooled(torch.zeros(ITEMS, LAYERS, WIDTH, device=GPU), targets, layers)
    together = torch.zeros(LAYERS, ITEMS * FRAMES, WIDTH, dtype=torch.float16)
    # Of three lengths, so that some frames are padding.
    means, spreads = torch.zeros(LAYERS, ITEMS, WIDTH), torch.ones(LAYERS, ITEMS, WIDTH)
    samples = Frames(
        [(together, item * FRAMES, 4 + item % 3) for item in range(ITEMS)],
        layers,
        targets,
        layers,
        WIDTH,
        [(means, spreads, item) for item in range(ITEMS)],
        Scale(torch.zeros(LAYERS, WIDTH), torch.ones(LAYERS, WIDTH)),
    )
    assert samples.resident() is samples
    place, *_ = samples.places[0]
    assert place.device == (GPU if resident else torch.device("cpu"))
    # Pinned memory asks for a real driver.
    samples._halves = torch.zeros(10**5, dtype=torch.float16)
    return samples


@pytest.mark.parametrize(("track", "room"), [("ta", ROOM), ("twa", ROOM), ("twa", NO_ROOM)])
@pytest.mark.parametrize("metric", ["accuracy", "map"])
def test_a_step_and_its_validation_stay_on_the_gpu(
    track: str, room: int, metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One tensor on the other side ends a run on a GPU that every test on a CPU has passed."""
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (room, room))
    with FakeTensorMode(allow_non_fake_inputs=True):
        kind = torch.zeros(ITEMS, dtype=torch.long) if metric == "accuracy" else torch.zeros(ITEMS, CLASSES)
        samples = samples_of(track, kind.to(GPU), room == ROOM)
        stack = stack_of(HEADS.get(track), WIDTH, CLASSES, GPU)
        state = probes._start(stack, samples, range(SETS), RATES)
        shares = dict.fromkeys(stack.trained, 1.0) | dict(stack.head.shares)
        learners = probes._Learners(state, shares, [1e-3] * RATES, Protocol())
        # Pooled features are picked where they lie; frames by numbers, which a fake tensor does not have.
        index = torch.zeros(SETS, 10, dtype=torch.long, device=GPU)
        if track == "twa":
            with unset_fake_temporarily():
                index = torch.arange(10).repeat(SETS, 1)
        for batch in samples.batches(index):
            state, gradients = (probes._of(part, batch.groups) for part in (learners.state, learners.gradients))
            step = Step(metric, samples.targets[batch.items], [0] * SETS)  # type: ignore[arg-type]
            stack.differentiate(state, gradients, batch, step)
            assert all(inputs.device == GPU for _, inputs, _ in batch.pieces())
            assert stack.logits(state, batch).device == GPU
        learners.step(0.5)
        assert all(tensor.device == GPU for tensor in learners.state.values())
        scores = torch.zeros(1, RATES, ITEMS, CLASSES, device=GPU)
        if metric == "accuracy":
            assert score("accuracy", scores, samples.targets).device == GPU
