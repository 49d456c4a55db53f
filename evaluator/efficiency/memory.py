"""Peak memory of one forward pass: of a GPU's allocator, or of the resident memory of this process."""

import ctypes
import gc
import resource
from pathlib import Path
from typing import NamedTuple, Protocol

import torch

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
# This value, written to clear_refs, sets the peak of the resident memory back to the present size.
_RESET_PEAK = "5"


class Peak(NamedTuple):
    """Bytes. ``allocated`` includes the weights; None if it cannot be measured. ``reserved`` is None on a CPU."""

    weights: int
    allocated: int | None
    reserved: int | None


class Gauge(Protocol):
    """Measures memory. Make it before anything is loaded; then call `loaded`, `begin`, run the pass, call `end`."""

    def loaded(self, model: object) -> None:
        """Measure the weights. The backbone is on the device, and nothing has run."""

    def begin(self) -> None:
        """Start the measurement."""

    def end(self) -> Peak:
        """The peak since `begin`."""


class CudaMemory:
    """Memory of torch's allocator: allocated bytes are in tensors, reserved bytes were taken from the GPU for tensors.

    Both contain the weights, the input, the outputs, and the workspaces that libraries take from the allocator. Neither
    contains the memory of CUDA's own context.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before = torch.cuda.memory_allocated(device)
        self._weights = 0

    def loaded(self, model: object) -> None:
        """Measure the weights: the memory that is allocated now."""
        gc.collect()
        self._weights = torch.cuda.memory_allocated(self._device) - self._before

    def begin(self) -> None:
        """Release the memory that the warm-up reserved, and reset the peaks."""
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
    """Resident memory of this process: the sizes of the weights, plus the growth during a pass.

    The growth is measured because the interpreter and its libraries are no part of a model. The system counts memory
    that was written to, with a resolution of about a mebibyte. Before the pass the C library releases its free memory;
    otherwise the pass would use that memory without any growth.
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
        """Release free memory, store the resident size, and reset the peak."""
        gc.collect()
        _trim()
        try:
            _CLEAR_REFS.write_text(_RESET_PEAK)
            self._before, self._reset = _resident("VmRSS"), True
        except OSError:
            self._reset = False

    def end(self) -> Peak:
        """The peak since `begin`; its ``allocated`` is None if the peak could not be reset."""
        if not self._reset:
            return Peak(self._weights, None, None)
        return Peak(self._weights, self._weights + max(_resident("VmHWM") - self._before, 0), None)


def gauge(device: torch.device) -> Gauge:
    """The gauge for a device. Make it before anything is loaded."""
    return CudaMemory(device) if device.type == "cuda" else HostMemory()


def available(device: torch.device) -> int | None:
    """Bytes that a fresh process could allocate on the device now: the free memory, or the limit of this process."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    # Not at the top: it is not on every machine on which a GPU is measured.
    import psutil

    limits = [limit for limit in (resource.getrlimit(resource.RLIMIT_AS)[0],) if limit != resource.RLIM_INFINITY]
    limits.append(psutil.virtual_memory().available)
    # psutil does not read the memory limit of a container, which control groups (version 2) state in this file.
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
    """Make the C library return free memory to the system. Only glibc can do so."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
