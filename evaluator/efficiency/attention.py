"""The implementation of attention, or of the layer that replaces it, in a forward pass."""

import contextlib
import sys
from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

Forced = Literal["eager", "memory-efficient", "flash"]

_BACKENDS = {
    "eager": SDPBackend.MATH,
    "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
}


def forced(attention: Forced | None) -> AbstractContextManager[None]:
    """Make torch's scaled_dot_product_attention use one kernel; "eager" stores the whole matrix of weights."""
    return contextlib.nullcontext() if attention is None else sdpa_kernel([_BACKENDS[attention]])


def implementation(model: object, device: torch.device) -> str:
    """The implementations in a model, such as "sdpa", "eager" or "Mamba-2 by mamba_ssm"; "none" if none is known."""
    if not isinstance(model, torch.nn.Module):
        return "none"
    return ", ".join(sorted({name for module in model.modules() if (name := _of(module, device))})) or "none"


def _of(module: torch.nn.Module, device: torch.device) -> str | None:
    mixers = sys.modules.get("evaluator.backbones.biomamba.mixers")
    if mixers is not None and isinstance(module, mixers.Mixer):
        return f"Mamba-2 by {mixers.kernels_on(device, module.kernels)}"
    kind = type(module)
    if "Attention" not in kind.__name__:
        return None
    # A class of transformers states its implementation in its configuration. Other classes have only one.
    chosen = getattr(getattr(module, "config", None), "_attn_implementation", None)
    if chosen is not None:
        return str(chosen)
    return "sdpa" if kind.__module__.startswith("torchaudio.") else kind.__name__
