"""One Mamba-2 mixer in two implementations: mamba_ssm's kernels on a GPU, transformers' plain torch anywhere.

Both have the same parameters under the same names, so both load the same weights.
"""

import functools
import importlib
import inspect
import math
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import initialization as init
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer, mamba2_chunk_scan

from evaluator.backbones.biomamba.configuration import BioMambaConfig
from tasks.support.errors import UserError

Kernels = Literal["auto", "transformers", "mamba_ssm"]

# transformers chooses the scan at import. If mamba_ssm is installed it chooses a Triton kernel, which cannot run on a
# CPU. The function inside the wrapper is the scan in torch.
_torch_scan: Any = inspect.unwrap(mamba2_chunk_scan)
# Frames per chunk of that scan. It changes the cost, not the result. The cost within chunks grows with their length,
# the cost between chunks with the square of their number. At this length both are equal for clips of 15 minutes.
_CHUNK = 128

# mamba_ssm's initialisation.
_A_RANGE = (1.0, 16.0)
_DT_RANGE = (1e-3, 1e-1)


class Mixer(Mamba2Mixer):
    """A Mamba-2 mixer: (batch, frames, hidden_size) to the same. Each frame depends on itself and earlier ones.

    Attributes:
        kernels: which implementation runs; see :func:`kernels_on`.
    """

    def __init__(self, config: BioMambaConfig) -> None:
        super().__init__(config.mixer_config, layer_idx=0, initialize_mixer_weights=False)
        self.kernels: Kernels = "auto"

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(batch, frames, hidden_size) to (batch, frames, hidden_size)."""
        if kernels_on(hidden_states.device, self.kernels) == "mamba_ssm":
            skeleton = _mamba_ssm_mixer(
                d_model=self.hidden_size,
                d_state=self.ssm_state_size,
                d_conv=self.conv_kernel_size,
                expand=self.intermediate_size // self.hidden_size,
                headdim=self.head_dim,
                ngroups=self.n_groups,
            )
            output: Tensor = torch.func.functional_call(
                skeleton, dict(self.named_parameters()), (hidden_states,), strict=True
            )
            return output
        return self._in_torch(hidden_states)

    def _in_torch(self, hidden_states: Tensor) -> Tensor:
        frames = hidden_states.shape[1]
        gate, convolved, steps = self.in_proj(hidden_states).split(
            [self.intermediate_size, self.conv_dim, self.num_heads], dim=-1
        )
        convolved = self.act(self.conv1d(convolved.mT)[..., :frames].mT)
        states = self.n_groups * self.ssm_state_size
        x, b, c = convolved.split([self.intermediate_size, states, states], dim=-1)
        # Under autocast too: the scan adds up hundreds of frames, and mamba_ssm keeps its states in float32.
        with torch.autocast(hidden_states.device.type, enabled=False):
            output = _torch_scan(
                x.float().unflatten(-1, (self.num_heads, self.head_dim)),
                steps.float(),
                -torch.exp(self.A_log.float()),
                b.float().unflatten(-1, (self.n_groups, self.ssm_state_size)),
                c.float().unflatten(-1, (self.n_groups, self.ssm_state_size)),
                chunk_size=min(_CHUNK, frames),
                D=self.D.float(),
                dt_bias=self.dt_bias.float(),
                dt_softplus=True,
                dt_limit=self.time_step_limit,
            )
        mixed: Tensor = self.out_proj(self.norm(output.flatten(-2), gate).to(hidden_states.dtype))
        return mixed

    @torch.no_grad()
    def initialise(self, blocks: int) -> None:
        """Draw random weights as mamba_ssm does. The output weights are scaled for a stack of ``blocks``."""
        assert self.conv1d.bias is not None
        inputs = (
            (self.in_proj.weight, self.hidden_size),
            (self.conv1d.weight, self.conv_kernel_size),
            (self.conv1d.bias, self.conv_kernel_size),
            (self.out_proj.weight, self.intermediate_size * blocks),
        )
        for weight, count in inputs:
            init.uniform_(weight, -1 / math.sqrt(count), 1 / math.sqrt(count))
        low, high = map(math.log, _DT_RANGE)
        step = torch.empty_like(self.dt_bias).uniform_(low, high).exp()
        # The inverse of softplus.
        init.copy_(self.dt_bias, step + torch.log(-torch.expm1(-step)))
        init.copy_(self.A_log, torch.empty_like(self.A_log).uniform_(*_A_RANGE).log())
        init.ones_(self.D)


def kernels_on(device: torch.device, kernels: Kernels) -> Literal["transformers", "mamba_ssm"]:
    """Which implementation runs on a device: "auto" uses mamba_ssm on a GPU if it is installed.

    Raises:
        UserError: mamba_ssm is asked for and cannot run.
    """
    if kernels == "mamba_ssm":
        require_mamba_ssm()
        if device.type != "cuda":
            raise UserError(
                f'kernels = "mamba_ssm" needs a CUDA device and this run is on the {device.type}: write'
                ' kernels = "auto".'
            )
        return "mamba_ssm"
    fast = kernels == "auto" and device.type == "cuda" and not _problem_with_mamba_ssm()
    return "mamba_ssm" if fast else "transformers"


def require_mamba_ssm() -> None:
    """Check that mamba_ssm's Mamba-2 can be imported.

    Raises:
        UserError: it cannot.
    """
    problem = _problem_with_mamba_ssm()
    if problem:
        raise UserError(
            f'kernels = "mamba_ssm" cannot be used ({problem}): install mamba-ssm and causal-conv1d,'
            ' or write kernels = "auto".'
        )


@functools.cache
def _problem_with_mamba_ssm() -> str:
    """Why mamba_ssm's Mamba-2 cannot be imported; empty if it can."""
    try:
        # mamba_ssm's Mamba-2 calls causal_conv1d without a check that it is installed.
        importlib.import_module("causal_conv1d")
        importlib.import_module("mamba_ssm.modules.mamba2")
    except ImportError as error:
        return str(error)
    return ""


@functools.cache
def _mamba_ssm_mixer(**sizes: int) -> torch.nn.Module:
    """mamba_ssm's Mamba-2 without weights of its own: each call supplies the weights."""
    mixer: torch.nn.Module = importlib.import_module("mamba_ssm.modules.mamba2").Mamba2(**sizes, device="meta")
    return mixer
