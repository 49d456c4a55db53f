"""What every encoder through transformers shares: its blocks are listened to, and long clips are heard in windows."""

import hashlib
import inspect
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evaluator.backbone import Layer

# Longer clips are encoded in chunks where the model itself sets no window. Attention needs memory that grows with the
# square of the length: at 60 s each of WavLM large's attention matrices takes 0.6 GB. Every BEANS item is shorter.
MAX_SECONDS = 60.0

# Where the weights lay and which library wrote them do not change what they compute.
_NOT_SETTINGS = ("_name_or_path", "transformers_version", "architectures", "dtype", "_commit_hash")


class Encoder(torch.nn.Module):
    """A transformers model as a backbone.

    Layer 0 is what enters the first block, layer i the output of block i: hooks take them where they arise, because
    the last of transformers' own ``hidden_states`` is taken after the final norm in some families and before it in
    others. A clip longer than ``window`` samples is encoded in consecutive windows, alone each, whose frames are
    joined; samples at the end that are too few for a frame are not heard, as at the end of any clip.

    Args:
        model: the part of the model that hears.
        blocks: its blocks, in their order.
        preprocessor: the checkpoint's feature extractor.
        window: samples that are encoded at once.
        widths: channels of layer 0 and of each block.
        min_samples: the fewest that give one frame.
    """

    exact_masking = False

    def __init__(
        self,
        model: Any,
        blocks: Sequence[torch.nn.Module],
        preprocessor: Any,
        *,
        window: int,
        widths: Sequence[int],
        min_samples: int,
    ) -> None:
        import transformers

        super().__init__()
        self.model = model
        self.preprocessor = preprocessor
        self.sample_rate = int(preprocessor.sampling_rate)
        self.window = max(window, min_samples)
        self.min_samples = min_samples
        names = ["input of block 1", *(f"block {index}" for index in range(1, len(blocks) + 1))]
        self.layers = [Layer(name, width) for name, width in zip(names, widths, strict=True)]
        # A tuple of its own: as a submodule the blocks would be counted twice.
        self._blocks = tuple(blocks)
        config = model.config
        self.options: dict[str, object] = {
            "architecture": config.model_type,
            "config": _without(json.loads(config.to_json_string(use_diff=True)), _NOT_SETTINGS),
            "preprocessor": _without(json.loads(preprocessor.to_json_string()), _NOT_SETTINGS),
            "window_samples": self.window,
            "attention": config._attn_implementation,
            "transformers": transformers.__version__,
        }
        remote = {path for part in (model, preprocessor) for path in _remote_code(type(part))}
        if remote:
            self.options["remote_code"] = hashlib.sha256(b"".join(map(Path.read_bytes, sorted(remote)))).hexdigest()

    def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor | list[Tensor]]:
        """(batch, samples) to one (batch, frames, width) a layer, and valid frames as ``Backbone.encode`` has them."""
        samples = int(lengths.max())
        if samples <= self.window:
            return self.encode_window(waveforms, lengths)
        frames: list[list[Tensor]] = [[] for _ in self.layers]
        counts: list[Tensor] = []
        shared = True
        for start in range(0, samples, self.window):
            rest = (lengths - start).clamp(max=self.window)
            # Every clip is heard at least once.
            heard = torch.ones_like(rest, dtype=torch.bool) if start == 0 else rest >= self.min_samples
            if not bool(heard.any()):
                break
            outputs, valid = self.encode_window(waveforms[heard, start : start + self.window], rest[heard])
            shared = isinstance(valid, Tensor)
            hops = [valid] if isinstance(valid, Tensor) else valid
            counts = counts or [torch.zeros_like(lengths) for _ in hops]
            for total, count in zip(counts, hops, strict=True):
                total[heard] += count
            for layer, output in enumerate(outputs):
                # Clips that go on in the next window fill this one, so that joining them leaves no gap.
                part = output.new_zeros(len(lengths), int(hops[0 if shared else layer].max()), output.shape[2])
                part[heard] = output[:, : part.shape[1]]
                frames[layer].append(part)
        return [torch.cat(parts, 1) for parts in frames], counts[0] if shared else counts

    def encode_window(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor | list[Tensor]]:
        """As ``encode``, for clips of at most ``window`` samples."""
        raise NotImplementedError

    def hear(self, **inputs: Tensor) -> list[Tensor]:
        """Run the model and return what entered its first block and what left each block."""
        with listening(self._blocks) as heard:
            self.model(**inputs)
        return heard


def spectra(preprocessor: Any, waveforms: Tensor, lengths: Tensor) -> list[dict[str, Tensor]]:
    """What a feature extractor makes of each clip by itself: name to (1, ...) on the CPU, floats as float32."""
    clips = waveforms.detach().float().cpu()
    # The extractors compute with torch in part, and log-mel values in bfloat16 are others.
    with torch.autocast("cpu", enabled=False):
        results = [
            preprocessor(clip[:length].numpy(), sampling_rate=preprocessor.sampling_rate, return_tensors="pt")
            for clip, length in zip(clips, lengths.tolist(), strict=True)
        ]
    return [
        {name: value.float() if value.is_floating_point() else value for name, value in result.items()}
        for result in results
    ]


@contextmanager
def listening(blocks: Sequence[torch.nn.Module]) -> Iterator[list[Tensor]]:
    """Collect what enters the first of ``blocks`` and what leaves each, in the order of their calls."""
    heard: list[Tensor] = []

    def entered(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        heard.append(args[0] if args else kwargs["hidden_states"])

    def left(module: torch.nn.Module, args: tuple[Any, ...], output: Any) -> None:
        heard.append(output[0] if isinstance(output, tuple) else output)

    hooks = [blocks[0].register_forward_pre_hook(entered, with_kwargs=True)]
    hooks += [block.register_forward_hook(left) for block in blocks]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


def window_of(preprocessor: Any, max_seconds: float) -> int:
    """``max_seconds`` in samples; as good as no limit where it is infinite."""
    return int(min(max_seconds * int(preprocessor.sampling_rate), 2**62))


def _without(settings: Any, names: Sequence[str]) -> Any:
    if isinstance(settings, dict):
        return {key: _without(value, names) for key, value in settings.items() if key not in names}
    return settings


def _remote_code(kind: type) -> list[Path]:
    """The files beside a class that came with the checkpoint: they decide what it computes."""
    if not kind.__module__.startswith("transformers_modules"):
        return []
    return list(Path(inspect.getfile(kind)).parent.glob("*.py"))
