"""Count the multiply-adds of a forward pass, with torch's own counter and a formula for Mamba's mixers."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

TORCH = "torch's counter: products of matrices, convolutions and attention"
SCAN = (
    "Mamba-2 mixers by formula: their projections and convolution, and 3 x states + 2 a channel and frame for the scan"
)

# The kernels of torch's scaled_dot_product_attention, by operator name.
_KERNELS = {
    "_scaled_dot_product_flash_attention": "flash",
    "_scaled_dot_product_flash_attention_for_cpu": "flash (CPU)",
    "_scaled_dot_product_efficient_attention": "memory-efficient",
    "_scaled_dot_product_cudnn_attention": "cuDNN",
    "_flash_attention_forward": "flash",
    "_efficient_attention_forward": "memory-efficient",
}


class Operations(NamedTuple):
    """Multiply-adds of one pass, how they were counted, and the fused attention kernels that ran ("" for none)."""

    multiply_adds: int
    counted: str
    kernels: str


@torch.inference_mode()
def count(model: object, run: Callable[[], object]) -> Operations:
    """Count the multiply-adds that ``run`` computes with ``model``.

    Work per element (norms, activations, softmax) does not count. torch's counter does not know Fourier transforms and
    fused recurrent layers (LSTM): they count 0.
    """
    counter = FlopCounterMode(display=False, custom_mapping=_missing())
    with counter, _one_by_one(), _mixers(model, counter) as scans:
        run()
    inside = sum(scan.torch_flops for scan in scans)
    formula = sum(scan.multiply_adds for scan in scans)
    operators = counter.get_flop_counts().get("Global", {})
    kernels = sorted({_KERNELS[name] for name in map(_name, operators) if name in _KERNELS})
    return Operations(
        multiply_adds=(counter.get_total_flops() - inside) // 2 + formula,
        counted=f"{TORCH}; {SCAN}" if scans else TORCH,
        kernels=", ".join(kernels),
    )


def mixer_multiply_adds(
    batch: int, frames: int, *, width: int, inner: int, heads: int, states: int, groups: int, kernel: int
) -> int:
    """Multiply-adds of one Mamba-2 mixer. They are the same for all its kernels.

    Args:
        batch: number of clips.
        frames: frames per clip.
        width: channels of input and output.
        inner: channels inside: heads times their width.
        heads: heads of the scan.
        states: states per channel.
        groups: groups of channels that share B and C.
        kernel: frames in the kernel of the convolution.
    """
    convolved = inner + 2 * groups * states
    projections = width * (inner + convolved + heads) + inner * width
    # Per channel: decay of the states, update with step x input x B, output with C; then the skip connection.
    scan = inner * (3 * states + 2)
    return batch * frames * (projections + convolved * kernel + scan)


class _Scan(NamedTuple):
    """One call of a mixer: the operations that torch counted in it, and the multiply-adds by formula."""

    torch_flops: int
    multiply_adds: int


@contextlib.contextmanager
def _mixers(model: object, counter: FlopCounterMode) -> Iterator[Sequence[_Scan]]:
    """Record every call of a mixer in ``model``, because torch's counter is wrong for mixers.

    It counts 0 for their own kernels, and for the scan in torch it also counts operations that no kernel needs.
    """
    module = sys.modules.get("evaluator.backbones.biomamba.mixers")
    scans: list[_Scan] = []
    hooks = []
    if module is not None and isinstance(model, torch.nn.Module):
        for mixer in (each for each in model.modules() if isinstance(each, module.Mixer)):
            hooks += _watch(mixer, counter, scans)
    try:
        yield scans
    finally:
        for hook in hooks:
            hook.remove()


def _watch(mixer: Any, counter: FlopCounterMode, scans: list[_Scan]) -> list[Any]:
    """Add a scan to ``scans`` for every call of the mixer. Returns the hooks to remove."""
    started: list[int] = []

    def before(module: object, inputs: tuple[Tensor, ...]) -> None:
        started.append(counter.get_total_flops())

    def after(module: object, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        batch, frames, width = inputs[0].shape
        multiply_adds = mixer_multiply_adds(
            batch,
            frames,
            width=width,
            inner=mixer.intermediate_size,
            heads=mixer.num_heads,
            states=mixer.ssm_state_size,
            groups=mixer.n_groups,
            kernel=mixer.conv_kernel_size,
        )
        scans.append(_Scan(counter.get_total_flops() - started.pop(), multiply_adds))

    return [mixer.register_forward_pre_hook(before), mixer.register_forward_hook(after)]


def _missing() -> dict[Any, Any]:
    """Operators that torch's counter does not know."""

    def on_cpu(query: Any, key: Any, value: Any, *rest: Any, out_shape: Any = None, **options: Any) -> int:
        return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]

    return {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: on_cpu}


@contextlib.contextmanager
def _one_by_one() -> Iterator[None]:
    """Disable torch's fused encoder layers, because the counter cannot count inside them."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def _name(operator: Any) -> str:
    return str(operator).rpartition(".")[2]
