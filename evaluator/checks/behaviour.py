"""Checks of how a backbone behaves: a verdict, and one sentence with what was found and what to do about it."""

import math
import time
from collections.abc import Iterator, Sequence

import torch

from evaluator.backbone import ready
from evaluator.checks.sounds import Sound, equals, ladder, noise
from evaluator.checks.subject import FRAMES_APART, MEANS_APART, Subject, Verdict, apart
from evaluator.features.extraction import Block
from tasks.support.errors import UserError
from tasks.task import Task

_SHORTEST_SECONDS, _LONG_SECONDS = 0.1, 30.0
_REPEATABLE_ON_CUDA = 1e-6


def layers(subject: Subject, short: bool) -> Verdict:
    """Layers, widths and hops. ``Extractor.of`` has compared the first two with what is declared."""
    sounds = ladder(subject.rate, subject.model.min_samples, short)
    for sound in sounds:
        subject.alone(sound)
    described, bent = [], []
    for block, samples, counts in _frames(subject, sounds):
        hop = _hop(samples, counts)
        if hop is None:
            pairs = zip(counts, samples, strict=True)
            listed = ", ".join(f"{count} for {length / subject.rate:.2f} s" for count, length in pairs)
            bent.append(f"The frames of {subject.layer(block.layers[0])} keep no constant hop ({listed}):")
            continue
        width = f"{_span(block.layers)} of {block.width} channels"
        # The counts fix the hop to a per cent or so.
        hopping = f"a frame about every {float(f'{1000 * hop / subject.rate:.2g}'):g} ms" if hop else ""
        described.append(f"{width}, {hopping or f'frames a clip: {counts[0]}'}")
    if bent:
        return "fail", f"{bent[0]} return frame counts that follow from a clip's length and the layer's stride."
    return "pass", f"as declared: {'; '.join(described)}"


def deterministic(subject: Subject, short: bool) -> Verdict:
    """Two passes of one clip."""
    sound = ladder(subject.rate, subject.model.min_samples, short)[0]
    pairs = zip(subject.alone(sound), subject.hear([sound])[0], strict=True)
    differences = [apart(one, other) for one, other in pairs]
    size, index = max((max(difference), index) for index, difference in enumerate(differences))
    subject.steady = size == 0
    if subject.steady:
        return "pass", "two passes of a clip are equal to the bit"
    if subject.extractor.device.type == "cuda":
        # Kernels there add in no fixed order, and rounding to half precision makes the last bit larger.
        subject.steady = all(means <= _REPEATABLE_ON_CUDA and frames <= FRAMES_APART for means, frames in differences)
        if subject.steady:
            return "pass", f"two passes of a clip are equal to {_REPEATABLE_ON_CUDA:g} of each layer's scale"
    return "fail", (
        f"Two passes of one clip differ by {_percent(size)} in {subject.layer(index)}: turn off what draws random"
        " numbers in encode (dropout, noise, masking), and change nothing in encode that the next pass reads."
    )


def alone(subject: Subject, short: bool) -> Verdict:
    """A clip in a pass of its own, and in one with others, batched as real runs batch."""
    if subject.steady is False:
        return "note", "not compared, because two passes of one and the same clip differ"
    exact = subject.model.exact_masking
    sounds = (ladder if exact else equals)(subject.rate, subject.model.min_samples, short)
    by_itself = [subject.alone(sound) for sound in sounds]
    together = subject.hear(sounds)
    if subject.passes >= len(sounds):
        seconds = len(sounds[-1].waveform) / subject.rate
        return "note", f"clips of {seconds:.1f} s share no pass on {subject.extractor.device.type}: nothing to compare"
    failed, size, index, name = max(
        (means > MEANS_APART or frames > FRAMES_APART, max(means, frames), index, sound.name)
        for sound, one, other in zip(sounds, by_itself, together, strict=True)
        for index, (means, frames) in enumerate(map(apart, one, other))
    )
    if not failed:
        which = "unequal length share a batch (exact_masking)" if exact else "equal length share a batch"
        return (
            "pass",
            f"clips of {which}, and have the features they have alone to {_percent(MEANS_APART)} of a layer's scale",
        )
    where = f"differs by {_percent(size)} from itself alone in {subject.layer(index)}"
    if exact:
        return "fail", (
            f"In a batch with longer clips, {name} {where}: padding leaks into valid frames although exact_masking"
            " is True; mask by the lengths that encode is given, or leave exact_masking out."
        )
    return "fail", (
        f"In a batch with clips of its own length, {name} {where}: take no statistics over the batch in encode,"
        " as batch norm in training mode does."
    )


def lengths(subject: Subject) -> Verdict:
    """A tenth of a second, the stated minimum, and half a minute."""
    smallest, rate = subject.model.min_samples, subject.rate
    tenth, most = round(_SHORTEST_SECONDS * rate), round(_LONG_SECONDS * rate)
    worked, wrong = [], []
    for samples in (smallest, tenth) if 1 < smallest < tenth else (tenth,):
        said = f"{samples / rate:.2g} s"
        try:
            subject.alone(noise(f"noise of {said}", samples, 1))
        except UserError as error:
            wrong.append(f"{said}: {error} Set min_samples to the fewest samples that encode takes.")
        if samples == smallest:
            said += " (the stated minimum)"
        elif samples < smallest:
            said += f" (padded to the stated minimum, {smallest / rate:.2g} s)"
        worked.append(said)
    long = noise(f"noise of {_LONG_SECONDS:.0f} s", most, 2)
    start = time.perf_counter()
    try:
        subject.alone(long)
        worked.append(f"{_LONG_SECONDS:.0f} s (in {time.perf_counter() - start:.1f} s)")
    except UserError as error:
        wrong.append(f"{_LONG_SECONDS:.0f} s: {error} Cut long clips in encode, and join their frames.")
    if wrong:
        return "fail", " ".join(wrong)
    ladders = ladder(rate, smallest, False)
    for block, samples_of, counts in _frames(subject, [*ladders, long]):
        if _hop(samples_of[:-1], counts[:-1]) is not None and _hop(samples_of, counts) is None:
            return "note", (
                f"clips of {', '.join(worked)} work, but {subject.layer(block.layers[0])} has {counts[-1]} frames for"
                f" {_LONG_SECONDS:.0f} s and {counts[-2]} for {samples_of[-2] / rate:.2f} s: it may hear only a part"
            )
    return "pass", f"clips of {', '.join(worked)} work"


def frozen(subject: Subject) -> Verdict:
    """After all other passes: no gradient, no training mode, and the weights and buffers that were loaded."""
    backbone = subject.model.backbone
    stray = next(_strays(backbone), None)
    if stray is not None:
        return "fail", (
            f"{stray} holds a torch module that is not registered in the backbone, so that it is neither frozen, nor"
            " moved to the device, nor in the fingerprint: make the backbone a torch.nn.Module, and a list of modules a"
            " torch.nn.ModuleList."
        )
    if not isinstance(backbone, torch.nn.Module):
        return "note", "the backbone is no torch module: there are no weights to watch"
    wrong = []
    learning = [name for name, parameter in backbone.named_parameters() if parameter.requires_grad]
    if learning:
        wrong.append(f"{_some(learning)} asks for a gradient again after encode: leave requires_grad to the suite.")
    training = [name or type(backbone).__name__ for name, module in backbone.named_modules() if module.training]
    if training:
        wrong.append(f"{_some(training)} is in training mode: call no train() in encode, and let eval() work.")
    # ``ready`` took this fingerprint before the first pass.
    if ready(backbone, subject.extractor.device).weights_sha256 != subject.model.weights_sha256:
        changed = _changed_by_a_pass(subject, backbone)
        wrong.append(
            f"encode changes {_some(changed) if changed else 'weights or buffers'}: keep running statistics, counters"
            " and weights as they were loaded."
        )
    if wrong:
        return "fail", " ".join(wrong)
    return "pass", "no gradient, no training mode, weights and buffers as they were loaded"


def sample_rate(rate: int, tasks: Sequence[Task]) -> Verdict:
    """What the backbone cannot hear of the tasks that rank the public board."""
    shares = {
        task.name: max(0.0, 1 - rate / task.facts.native_rate)
        for task in tasks
        if task.group in ("core", "auxiliary") and task.facts.native_rate is not None
    }
    said = [f"{rate} Hz hears up to {rate / 2000:g} kHz"]
    lost = sorted((-share, name) for name, share in shares.items() if share)
    if lost:
        said.append(
            "lost of the recordings' band: " + ", ".join(f"{name} {-100 * share:.0f} %" for share, name in lost)
        )
    whole = sorted(name for name, share in shares.items() if not share)
    if whole:
        said.append(f"nothing lost: {', '.join(whole)}")
    return "note", "; ".join(said)


def _frames(subject: Subject, sounds: Sequence[Sound]) -> Iterator[tuple[Block, list[int], list[int]]]:
    """For sounds that were heard: each block, the samples of each sound, and how many frames it has there."""
    samples = [len(sound.waveform) for sound in sounds]
    for block in subject.extractor.blocks:
        yield block, samples, [subject.heard[sound.name][block.layers[0]].count for sound in sounds]


def _hop(samples: Sequence[int], counts: Sequence[int]) -> float | None:
    """Samples a frame, 0 where all clips have equally many frames, None where no hop explains the counts.

    Counts that are rounded from one hop lie less than a frame from the line through the first and the last.
    """
    slope = (counts[-1] - counts[0]) / (samples[-1] - samples[0])
    points = zip(samples, counts, strict=True)
    if any(abs(count - counts[0] - slope * (length - samples[0])) > 1 for length, count in points):
        return None
    return 1 / slope if slope else 0.0


def _strays(backbone: object) -> Iterator[str]:
    """Attributes that hold torch modules which the backbone's own ``modules()`` does not list."""
    known = set(backbone.modules()) if isinstance(backbone, torch.nn.Module) else set()
    for holder in (backbone, *(known - {backbone})):
        for name, value in getattr(holder, "__dict__", {}).items():
            parts = value.values() if isinstance(value, dict) else value
            for part in parts if isinstance(value, dict | list | tuple) else (value,):
                if isinstance(part, torch.nn.Module) and part not in known:
                    yield f"{type(holder).__name__}.{name}"


def _changed_by_a_pass(subject: Subject, backbone: torch.nn.Module) -> list[str]:
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    subject.hear(ladder(subject.rate, subject.model.min_samples, True)[:1])
    return [name for name, tensor in backbone.state_dict().items() if not torch.equal(tensor, before[name])]


def _span(indices: Sequence[int]) -> str:
    if len(indices) == 1:
        return f"layer {indices[0]}"
    if list(indices) == list(range(indices[0], indices[-1] + 1)):
        return f"layers {indices[0]} to {indices[-1]}"
    return f"layers {', '.join(map(str, indices))}"


def _some(names: Sequence[str]) -> str:
    return names[0] + (f" (and {len(names) - 1} more)" if len(names) > 1 else "")


def _percent(size: float) -> str:
    return "its number of frames" if math.isinf(size) else f"{100 * size:.2g} %"
