"""BioMamba on mamba_ssm's own kernels: `make gpu` runs this where they are installed."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest
import torch

from evaluator.backbones.biomamba.mixers import Mixer
from evaluator.backbones.biomamba.register import BioMambaConfig

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.skipif(
        find_spec("mamba_ssm") is None or find_spec("causal_conv1d") is None, reason="needs mamba-ssm and causal-conv1d"
    ),
]


def spread(mixer: Mixer) -> None:
    """Move all parameters far from their initial values, where a mix-up would not show."""
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.normal_(0, 0.5)
        # From states that last hundreds of frames to such that are gone after one.
        mixer.dt_bias.uniform_(-5, 2)
        mixer.A_log.uniform_(-1, 3)


@pytest.mark.parametrize(
    ("hidden", "state", "head", "groups", "frames"),
    [(64, 16, 16, 1, 301), (256, 128, 64, 1, 700), (64, 16, 16, 2, 50)],
)
def test_mamba_ssm_and_transformers_agree_on_the_same_weights(
    hidden: int, state: int, head: int, groups: int, frames: int
) -> None:
    """Else a row measured on a GPU with mamba_ssm and one measured without it would be of two models."""
    torch.manual_seed(0)
    mixer = Mixer(BioMambaConfig(hidden_size=hidden, state_size=state, head_dim=head, n_groups=groups)).eval()
    spread(mixer)
    hidden_states = torch.randn(2, frames, hidden)
    mamba2: Any = import_module("mamba_ssm.modules.mamba2").Mamba2
    theirs = mamba2(hidden, state, 4, expand=2, headdim=head, ngroups=groups)
    theirs.load_state_dict(mixer.state_dict(), strict=True)
    with torch.inference_mode():
        on_cpu = mixer(hidden_states)
        original = theirs.cuda()(hidden_states.cuda())
        mixer.cuda().kernels = "mamba_ssm"
        ours = mixer(hidden_states.cuda())
        mixer.kernels = "transformers"
        plain = mixer(hidden_states.cuda())
    for other in (original, ours, plain):
        torch.testing.assert_close(other.cpu(), on_cpu, atol=1e-3, rtol=1e-3)
