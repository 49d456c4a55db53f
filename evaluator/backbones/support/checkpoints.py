"""Helpers of loaders that read single files: find or download a file, read its tensors, load them exactly."""

import hashlib
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import torch
from torch import Tensor

from evaluator.backbones.support.paths import not_there
from tasks.support.errors import UserError

T = TypeVar("T")


def locate(source: str, base: Path, *, key: str, sha256: str | None = None) -> Path:
    """Return the path of the file that a submission names. An address is downloaded once into torch.hub's directory.

    Args:
        source: a path, relative to ``base``, or an address that starts with https:// or http://.
        base: the directory of the submission file.
        key: the submission's key, for messages.
        sha256: the expected checksum, in hexadecimal.

    Raises:
        UserError: there is no such file, it cannot be downloaded, or its checksum differs.
    """
    if not is_address(source):
        path = base / source
        if not path.is_file():
            raise UserError(not_there(key, source, base, "give the path of the file, or its https:// address"))
        if sha256 is not None and (actual := _sha256(path)) != sha256.lower():
            raise UserError(f"{key} {path} has the sha256 {actual}, not {sha256}: it is not the file that was pinned.")
        return path
    # Files of two models may have the same name, so the stored name contains a hash of the address.
    name = f"{hashlib.sha256(source.encode()).hexdigest()[:12]}-{Path(urlsplit(source).path).name}"
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        _download(source, path, key)
    if sha256 is not None and (actual := _sha256(path)) != sha256.lower():
        path.unlink()
        raise UserError(
            f"{key} {source} was downloaded and has the sha256 {actual}, not {sha256}: it is not the file that was"
            " pinned, and was removed."
        )
    return path


def warn_unpinned(source: str, path: Path, sha256: str | None) -> None:
    """Warn that a submission has no sha256 for a downloaded checkpoint, and show how to pin it."""
    if is_address(source) and sha256 is None:
        warnings.warn(
            f'checkpoint {source} is not pinned: write sha256 = "{_sha256(path)}" in the submission, so that it is the'
            " same model tomorrow.",
            stacklevel=3,
        )


def is_address(source: str) -> bool:
    """Whether ``source`` is an address to download."""
    return source.startswith(("https://", "http://"))


def read_tensors(path: Path, *, within: str | None = None) -> dict[str, Tensor]:
    """Read the state dict of a file made with ``torch.save``, without running code from the file.

    Args:
        path: the file.
        within: if the file is a dict with this key, the state dict is its value.

    Raises:
        UserError: the file has another format, or contains other things than tensors.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise UserError(
            f"checkpoint {path} cannot be read as a state dict saved with torch.save ({type(error).__name__}): get the"
            " file again, or save the model's state_dict() alone."
        ) from error
    if within is not None and isinstance(content, Mapping) and within in content:
        content = content[within]
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise UserError(f"checkpoint {path} is not a state dict of tensors: save the model's state_dict() alone.")
    return dict(content)


def load_exactly(
    model: torch.nn.Module, tensors: Mapping[str, Tensor], *, path: Path, left_over: Sequence[str] = ()
) -> None:
    """Load ``tensors`` into ``model``. Names and shapes must match exactly.

    Args:
        model: changed in place.
        tensors: the state dict.
        path: the file of the state dict, for messages.
        left_over: how the names of tensors start that are ignored, such as a pretraining head.

    Raises:
        UserError: with the names of tensors that are missing, unexpected, or of another shape.
    """
    wanted = {name: tensor for name, tensor in tensors.items() if not name.startswith(tuple(left_over))}
    own = model.state_dict()
    wrong = [name for name, tensor in wanted.items() if name in own and own[name].shape != tensor.shape]
    missing: list[str] = []
    unexpected: list[str] = []
    if not wrong:
        try:
            # torch's hooks also accept the old names of weight normalisation, so only its report has the right names.
            missing, unexpected = model.load_state_dict(wanted, strict=False)
        except RuntimeError as error:
            raise UserError(f"checkpoint {path} does not fit: {' '.join(str(error).split())}.") from error
    for what, names in (("of another shape", wrong), ("missing", missing), ("unexpected", unexpected)):
        if names:
            listed = ", ".join(sorted(names)[:5]) + (" ..." if len(names) > 5 else "")
            raise UserError(f"checkpoint {path} does not fit its config: {len(names)} tensors {what} ({listed}).")


def untrained(build: Callable[[], T], seed: int) -> T:
    """Call ``build`` with torch's generator set to ``seed``. The caller's random state does not change."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return build()


@contextmanager
def entering(block: torch.nn.Module) -> Iterator[list[Tensor]]:
    """Collect the inputs of ``block``: its first argument, or the first entry if that is a tuple."""
    inputs: list[Tensor] = []
    handle = block.register_forward_pre_hook(
        lambda module, args: inputs.append(args[0][0] if isinstance(args[0], tuple) else args[0])
    )
    try:
        yield inputs
    finally:
        handle.remove()


def _download(source: str, path: Path, key: str) -> None:
    from filelock import FileLock
    from tqdm import tqdm

    from tasks.prepare.download import download
    from tasks.prepare.source import Remote

    by_hand = f"get the file another way and give its path as {key}"
    remote = Remote(source, path.name, otherwise=by_hand, moved_by="TORCH_HOME")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A second process waits and finds the file. disable=None: the bar is shown only on a terminal.
        with (
            FileLock(path.with_name(f".{path.name}.lock")),
            tqdm(desc=path.name[13:], unit="B", unit_scale=True, disable=None) as bar,
        ):

            def report(what: str, done: float, total: float, unit: str = "") -> None:
                bar.total = total or None
                bar.update(done - bar.n)

            download(remote, path.parent, report)
    except OSError as error:
        raise UserError(
            f"{key} {source} cannot be downloaded into {path.parent} ({error.strerror or type(error).__name__}): check"
            f" the directory, or {by_hand}."
        ) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
