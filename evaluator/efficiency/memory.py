"""Peak memory of one forward pass: a GPU's allocator, or the resident memory of this process."""

import ctypes
import gc
import resource
from pathlib import Path
from typing import NamedTuple, Protocol

import torch

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
# Written to clear_refs, it sets the peak of the resident memory back to what is resident now.
_RESET_PEAK = "5"


class Peak(NamedTuple):
    """Bytes. ``allocated`` includes the weights; None where it cannot be measured. ``reserved`` is a GPU's alone."""

    weights: int
    allocated: int | None
    reserved: int | None


class Gauge(Protocol):
    """Made before anything is loaded; then `loaded`, `begin`, the pass, `end`."""

    def loaded(self, model: object) -> None:
        """The backbone lies on the device now, and nothing has run."""

    def begin(self) -> None:
        """What follows is measured."""

    def end(self) -> Peak:
        """The peak since `begin`."""


class CudaMemory:
    """torch's allocator: allocated is what tensors hold, reserved what it has taken from the GPU to give to them.

    Both contain the weights, the input, the outputs, and the workspaces that libraries take from the allocator. What
    CUDA's own context takes is in neither.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before = torch.cuda.memory_allocated(device)
        self._weights = 0

    def loaded(self, model: object) -> None:
        """What is allocated now are the weights."""
        gc.collect()
        self._weights = torch.cuda.memory_allocated(self._device) - self._before

    def begin(self) -> None:
        """Give back what the warm-up left reserved, and set the peaks back."""
        gc.collect()
        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self._device)

    def end(self) -> Peak:
        """The peaks since `begin`."""
        torch.cuda.synchronize(self._device)
        allocated = torch.cuda.max_memory_allocated(self._device) - self._before
        return Peak(self._weights, allocated, torch.cuda.max_memory_reserved(self._device))


class HostMemory:
    """Resident memory of this process: the weights, counted from their sizes, and how far a pass grows the rest.

    Growth and not size: the interpreter and its libraries are no part of a model. Memory counts where it was written
    to, as the system counts it, to about a mebibyte. Before the pass the C library gives back what it holds free, so
    that memory freed before does not hide what the pass takes.
    """

    def __init__(self) -> None:
        self._weights = 0
        self._before = 0
        self._reset = False

    def loaded(self, model: object) -> None:
        """Count the weights, if the backbone is a torch module."""
        if isinstance(model, torch.nn.Module):
            tensors = [*model.parameters(), *model.buffers()]
            # Tied weights share their storage.
            storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
            self._weights = sum(storages.values())

    def begin(self) -> None:
        """Give back what is held free, note what is resident, and set the peak back to it."""
        gc.collect()
        _trim()
        try:
            _CLEAR_REFS.write_text(_RESET_PEAK)
            self._before, self._reset = _resident("VmRSS"), True
        except OSError:
            self._reset = False

    def end(self) -> Peak:
        """The peak since `begin`, or None where it could not be set back."""
        if not self._reset:
            return Peak(self._weights, None, None)
        return Peak(self._weights, self._weights + max(_resident("VmHWM") - self._before, 0), None)


def gauge(device: torch.device) -> Gauge:
    """What measures the memory of a device. Make it before anything is loaded."""
    return CudaMemory(device) if device.type == "cuda" else HostMemory()


def available(device: torch.device) -> int | None:
    """Bytes that a fresh process could take on the device now: what is free, or what this process is limited to."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    # Not at the top: it is not on every machine on which a GPU is measured.
    import psutil

    limits = [limit for limit in (resource.getrlimit(resource.RLIMIT_AS)[0],) if limit != resource.RLIM_INFINITY]
    limits.append(psutil.virtual_memory().available)
    # Where a container limits its memory, version 2 of control groups states it here. psutil does not read it.
    group = Path("/sys/fs/cgroup/memory.max")
    if group.is_file() and (text := group.read_text().strip()).isdigit():
        limits.append(int(text))
    return min(limits)


def _resident(field: str) -> int:
    """A field of the process's status, in bytes.

    psutil has no peak on Linux, and the size before the pass must be counted as the peak is.
    """
    for line in _STATUS.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise OSError(f"{_STATUS} has no field {field}")


def _trim() -> None:
    """Ask the C library to give free memory back to the system; only glibc can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
