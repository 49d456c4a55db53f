"""One forward pass, contained and checked: what a backbone returns must be what it declares."""

from contextlib import nullcontext

import torch
from torch import Tensor

from evaluator.backbone import Loaded
from evaluator.features.pooling import Layers
from evaluator.guard.contained import contained, place
from evaluator.guard.opened import Named, opened
from tasks.support.errors import UserError

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


@torch.inference_mode()
def forward(model: Loaded, inputs: Tensor, lengths: Tensor, device: torch.device, precision: str) -> Layers:
    """Run ``encode`` on a batch.

    Args:
        model: the backbone.
        inputs: (batch, samples) float32.
        lengths: (batch,) valid samples.
        device: the device of the backbone.
        precision: "fp32", or "bf16" for autocast.

    Raises:
        UserError: ``encode`` fails, ends the program, opens a file that the submission does not name, or returns
            something else than the declared layers. An error that memory has run out is not changed.
    """
    named: Named | None = getattr(model.backbone, "named_files", None)
    with contained(), opened() if named else nullcontext(()) as read:
        try:
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                returned = model.backbone.encode(_to_device(inputs, device), _to_device(lengths, device))
        except Exception as error:
            if is_out_of_memory(error):
                raise
            # The backbone may be a user's code. Its author needs the line that failed, not the suite's stack.
            raise UserError(
                f"The backbone's encode failed on {tuple(inputs.shape)} samples with {type(error).__name__}:"
                f" {' '.join(str(error).split())} ({place(error)})."
            ) from error
    if named:
        named.refuse_others(read, "encode")
    return _as_declared(model, returned, lengths, device)


def _as_declared(model: Loaded, returned: object, lengths: Tensor, device: torch.device) -> Layers:
    """The layers that encode returned, on the device. Raises a UserError if they are not as the backbone declares."""
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        raise UserError(
            f"encode returned {_described(returned)} and not two values: return the outputs of all layers, and their"
            " numbers of valid frames."
        )
    layers = model.backbone.layers
    outputs, counts = returned
    if isinstance(counts, Tensor) and isinstance(outputs, tuple | list):
        counts = [counts] * len(outputs)
    for what, values in (("outputs", outputs), ("numbers of valid frames", counts)):
        if not isinstance(values, tuple | list):
            raise UserError(f"encode returned {_described(values)} as {what}: return a list of one tensor per layer.")
    if len(outputs) != len(layers) or len(counts) != len(layers):
        raise UserError(
            f"The backbone declares {len(layers)} layers but encode returned {len(outputs)} outputs"
            f" and {len(counts)} frame counts: make `layers` and `encode` agree."
        )
    for index, (layer, output, count) in enumerate(zip(layers, outputs, counts, strict=True)):
        where = f"Layer {index} ({layer.name})"
        if (
            not isinstance(output, Tensor)
            or output.dtype not in _FLOATS
            or output.is_meta
            or output.layout is not torch.strided
        ):
            raise UserError(f"{where} is {_described(output)}: return a torch tensor of floating-point numbers.")
        if not isinstance(count, Tensor) or count.dtype not in _WHOLE or count.is_meta:
            raise UserError(
                f"{where} has {_described(count)} as its numbers of valid frames: return a torch tensor of whole"
                " numbers, (batch,), such as lengths // hop."
            )
        shape = tuple(output.shape)
        if len(shape) != 3 or shape[0] != len(lengths) or shape[2] != layer.width or count.shape != lengths.shape:
            raise UserError(
                f"{where} has shape {shape} with {tuple(count.shape)} frame counts, not"
                f" (batch {len(lengths)}, frames, width {layer.width}) with ({len(lengths)},): correct layers or"
                " encode."
            )
    return [
        (output.detach().to(device), count.detach().to(device)) for output, count in zip(outputs, counts, strict=True)
    ]


def _described(value: object) -> str:
    """The type of a value, for a message; of a tensor also the type of its numbers."""
    if isinstance(value, Tensor):
        kind = str(value.dtype).removeprefix("torch.")
        layout = "" if value.layout is torch.strided else f" of layout {value.layout}".replace("torch.", "")
        return f"a {kind} tensor{layout}" + (" on the device meta" if value.is_meta else "")
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return "nothing (None)" if value is None else f"a {type(value).__module__}.{type(value).__name__}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the host ran out of memory. Some libraries raise errors that only their text identifies."""
    # The last one is cuDNN's: no algorithm's workspace fits.
    signs = ("out of memory", "not enough memory", "allocate memory", "alloc_failed", "unable to find an engine")
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(sign in str(error).lower() for sign in signs)


def _to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy the tensor to the device. A GPU reads it from pinned memory while the caller continues."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
