"""Any other audio encoder of transformers, or of a checkpoint's own code, whose layers can be identified."""

import inspect
from typing import Any

import torch
from torch import Tensor

from evaluator.backbones.huggingface.encoder import MAX_SECONDS, Encoder, capturing, spectra, window_of
from tasks.support.errors import UserError

# Seconds of two test sounds: they show whether the number of frames grows with the clip.
_SHORT, _LONG = 1.0, 1.7
# Seconds. The first of these that the model accepts is its shortest clip.
_SHORTEST = (0.025, 0.05, 0.1, 0.2, 0.5, _SHORT)


class AnyEncoder(Encoder):
    """An audio encoder that this suite does not know by name.

    At load time the model is checked on noise. Its hidden states must be the inputs and outputs of one list of blocks.
    Each must be (batch, frames, width), and a longer clip must give more frames. Only clips of equal length share a
    batch and nothing is padded, so every frame is valid.

    Raises:
        UserError: the model fails a check.
    """

    def __init__(self, model: Any, preprocessor: Any, *, name: str, max_seconds: float = MAX_SECONDS) -> None:
        try:
            states, blocks = _examine(model, preprocessor)
        except _UnknownLayersError as error:
            raise UserError(
                f"{name} is a {model.config.model_type!r} model, which this loader does not know by name, and {error}:"
                ' write its Backbone and use loader = "python".'
            ) from error
        super().__init__(
            model,
            blocks,
            preprocessor,
            window=window_of(preprocessor, max_seconds),
            widths=[state.shape[2] for state in states],
            min_samples=_min_samples(model, preprocessor),
        )
        self.normalisation = f"the checkpoint's own {type(preprocessor).__name__}"
        if max_seconds != float("inf"):
            self.normalisation += f"; clips beyond {max_seconds:g} s in chunks of {max_seconds:g} s"

    def encode_window(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """As ``Encoder.encode_window``; all clips have the same length."""
        inputs = _inputs(self.model, self.preprocessor, waveforms, lengths)
        outputs = self.capture(**inputs)
        return outputs, [torch.full_like(lengths, output.shape[1]) for output in outputs]


class _UnknownLayersError(Exception):
    """Why the layers of a model cannot be identified, as the end of a sentence."""


def _inputs(model: Any, preprocessor: Any, waveforms: Tensor, lengths: Tensor) -> dict[str, Tensor]:
    """The feature extractor's outputs that the model's ``forward`` takes, for clips of equal length."""
    clips = spectra(preprocessor, waveforms, lengths)
    inputs = {name: torch.cat([clip[name] for clip in clips]).to(waveforms.device) for name in clips[0]}
    for name, mask in list(inputs.items()):
        if name.endswith("mask") and mask.dim() == 2 and not bool(mask.all()):
            length, width = int(mask[0].sum()), mask.shape[1]
            if not bool(mask[:, :length].all()):
                raise _UnknownLayersError("its feature extractor masks something else than the end of a clip")
            # The masked end is padding to a round number. It is cut off, so that the model never reads it.
            for other, value in inputs.items():
                if value.dim() > 1 and value.shape[1] == width:
                    inputs[other] = value[:, :length]
    accepted = inspect.signature(model.forward).parameters
    return {name: value for name, value in inputs.items() if name in accepted}


def _states(model: Any, preprocessor: Any, seconds: float) -> tuple[dict[str, Tensor], list[Tensor]]:
    """The model's inputs and its hidden states for noise."""
    samples = int(seconds * preprocessor.sampling_rate)
    noise = torch.randn(1, samples, generator=torch.Generator().manual_seed(0)) * 0.1
    inputs = _inputs(model, preprocessor, noise, torch.tensor([samples]))
    states = getattr(model(**inputs, output_hidden_states=True), "hidden_states", None)
    return inputs, list(states) if states is not None else []


@torch.inference_mode()
def _examine(model: Any, preprocessor: Any) -> tuple[list[Tensor], list[torch.nn.Module]]:
    """The hidden states for a short noise, and the blocks they come from."""
    try:
        inputs, states = _states(model, preprocessor, _SHORT)
        more_inputs, more_states = _states(model, preprocessor, _LONG)
    except _UnknownLayersError:
        raise
    except Exception as error:  # the checkpoint's own code can raise anything
        text = " ".join(str(error).split())
        raise _UnknownLayersError(
            f"it does not take what its feature extractor gives ({type(error).__name__}: {text})"
        ) from error
    if len(states) < 2:
        raise _UnknownLayersError("it returns no hidden_states")
    if any(state.dim() != 3 for state in states):
        raise _UnknownLayersError("its hidden_states are not (batch, frames, width)")
    if all(inputs[name].shape == more_inputs[name].shape for name in inputs):
        raise _UnknownLayersError("its feature extractor pads every clip to one window, of which parts are no sound")
    if any(more.shape[1] <= state.shape[1] for state, more in zip(states, more_states, strict=True)):
        raise _UnknownLayersError("its hidden_states do not get more frames from a longer clip")
    for module in model.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == len(states) - 1:
            blocks = list(module)
            with capturing(blocks) as captured:
                model(**inputs)
            # The last hidden state is not compared: many models take it after a final norm.
            if len(captured) == len(states) and all(map(torch.equal, captured[:-1], states[:-1])):
                return captured, blocks
    raise _UnknownLayersError("its hidden_states are not what enters and leaves one list of blocks")


@torch.inference_mode()
def _min_samples(model: Any, preprocessor: Any) -> int:
    for seconds in _SHORTEST:
        try:
            _, states = _states(model, preprocessor, seconds)
        except Exception:  # each model fails in its own way on a clip that is too short
            continue
        if all(state.shape[1] > 0 and bool(torch.isfinite(state).all()) for state in states):
            break
    return int(seconds * preprocessor.sampling_rate)
