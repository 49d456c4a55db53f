"""The base class of all transformers encoders: it captures the outputs of blocks and encodes long clips in windows."""

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

# Where the model sets no window of its own, longer clips are encoded in chunks. The memory of attention grows with the
# square of the length: at 60 s, each attention matrix of WavLM large takes 0.6 GB. Every BEANS item is shorter.
MAX_SECONDS = 60.0

# The path of the weights and the library that wrote them do not change the output.
_NOT_SETTINGS = ("_name_or_path", "transformers_version", "architectures", "dtype", "_commit_hash")


class Encoder(torch.nn.Module):
    """A transformers model as a backbone.

    Layer 0 is the input of the first block. Layer i is the output of block i. Hooks capture these tensors, because
    families differ in the last of transformers' own ``hidden_states``: some take it after the final norm, some before.
    A clip longer than ``window`` samples is encoded in consecutive windows. Each window is encoded alone, and the
    frames are joined. As at the end of any clip, samples that are too few for a frame are dropped.

    Args:
        model: the part of the model that encodes audio.
        blocks: its blocks, in order.
        preprocessor: the checkpoint's feature extractor.
        window: number of samples that are encoded at once.
        widths: channels of layer 0 and of each block.
        min_samples: the smallest number of samples that gives one frame.
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
        # A tuple, because torch would count the blocks twice if they were a submodule.
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
        """(batch, samples) to one (batch, frames, width) per layer, and valid frames as in ``Backbone.encode``."""
        samples = int(lengths.max())
        if samples <= self.window:
            return self.encode_window(waveforms, lengths)
        frames: list[list[Tensor]] = [[] for _ in self.layers]
        counts: list[Tensor] = []
        shared = True
        for start in range(0, samples, self.window):
            remaining = (lengths - start).clamp(max=self.window)
            # Every clip is encoded at least once.
            present = torch.ones_like(remaining, dtype=torch.bool) if start == 0 else remaining >= self.min_samples
            if not bool(present.any()):
                break
            outputs, valid = self.encode_window(waveforms[present, start : start + self.window], remaining[present])
            shared = isinstance(valid, Tensor)
            hops = [valid] if isinstance(valid, Tensor) else valid
            counts = counts or [torch.zeros_like(lengths) for _ in hops]
            for total, count in zip(counts, hops, strict=True):
                total[present] += count
            for layer, output in enumerate(outputs):
                # A clip that continues in the next window fills this one, so joining leaves no gap.
                part = output.new_zeros(len(lengths), int(hops[0 if shared else layer].max()), output.shape[2])
                part[present] = output[:, : part.shape[1]]
                frames[layer].append(part)
        joined = []
        # Layer by layer, so that the parts of the joined layers leave the memory: of an hour they take gigabytes.
        while frames:
            joined.append(torch.cat(frames.pop(0), 1))
        return joined, counts[0] if shared else counts

    def encode_window(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor | list[Tensor]]:
        """As ``encode``, for clips of at most ``window`` samples."""
        raise NotImplementedError

    def capture(self, **inputs: Tensor) -> list[Tensor]:
        """Run the model and return the input of its first block and the output of each block."""
        with capturing(self._blocks) as captured:
            self.model(**inputs)
        return captured


def spectra(preprocessor: Any, waveforms: Tensor, lengths: Tensor) -> list[dict[str, Tensor]]:
    """Run a feature extractor on each clip alone: per clip, name to (1, ...) on the CPU, floats as float32."""
    clips = waveforms.detach().float().cpu()
    # Some extractors compute with torch. In bfloat16 their log-mel values would differ.
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
def capturing(blocks: Sequence[torch.nn.Module]) -> Iterator[list[Tensor]]:
    """Collect the input of the first of ``blocks`` and the output of each, in the order of the calls."""
    captured: list[Tensor] = []

    def on_input(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        captured.append(args[0] if args else kwargs["hidden_states"])

    def on_output(module: torch.nn.Module, args: tuple[Any, ...], output: Any) -> None:
        captured.append(output[0] if isinstance(output, tuple) else output)

    hooks = [blocks[0].register_forward_pre_hook(on_input, with_kwargs=True)]
    hooks += [block.register_forward_hook(on_output) for block in blocks]
    try:
        yield captured
    finally:
        for hook in hooks:
            hook.remove()


def window_of(preprocessor: Any, max_seconds: float) -> int:
    """``max_seconds`` in samples. An infinite value gives a limit that no clip reaches."""
    return int(min(max_seconds * int(preprocessor.sampling_rate), 2**62))


def _without(settings: Any, names: Sequence[str]) -> Any:
    if isinstance(settings, dict):
        return {key: _without(value, names) for key, value in settings.items() if key not in names}
    return settings


def _remote_code(kind: type) -> list[Path]:
    """Python files of a class that came with the checkpoint: they decide what it computes."""
    if not kind.__module__.startswith("transformers_modules"):
        return []
    return list(Path(inspect.getfile(kind)).parent.glob("*.py"))
