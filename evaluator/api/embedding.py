"""Embeddings of audio files, without a task."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

from evaluator.api.evaluation import load_submission
from evaluator.backbone import Layer, ready
from evaluator.features.clips import ahead, plan
from evaluator.features.extraction import Extractor
from evaluator.features.headers import Headers
from evaluator.results.environment import pick_device
from evaluator.submission import Submission
from leaderboard.records.protocol import PRECISIONS
from tasks.support.errors import UserError
from tasks.support.progress import Report, silent
from tasks.task import Item, Task

Key = int | str
"""A layer: its index, or its name. A negative index counts from the last layer."""

# Maximum number of files that an error names.
_NAMED = 3


@dataclass(frozen=True)
class Part:
    """The result for some of the files, by layer as requested.

    Attributes:
        positions: (clips,) position of each file in the list of paths.
        vectors: (clips, width) float32, the mean over the frames of each file.
        frames: one array (frames, width) float32 per file; None if frames were not requested.
    """

    positions: list[int]
    vectors: dict[Key, NDArray[np.float32]]
    frames: dict[Key, list[NDArray[np.float32]]] | None


@overload
def embed(
    submission: Submission | str | Path,
    paths: Iterable[str | Path],
    layers: Sequence[Key] | None = None,
    frames: Literal[False] = False,
    *,
    device: str = "auto",
    precision: str = "fp32",
    max_duration: float | None = None,
    report: Report = silent,
) -> dict[Key, NDArray[np.float32]]: ...
@overload
def embed(
    submission: Submission | str | Path,
    paths: Iterable[str | Path],
    layers: Sequence[Key] | None = None,
    *,
    frames: Literal[True],
    device: str = "auto",
    precision: str = "fp32",
    max_duration: float | None = None,
    report: Report = silent,
) -> dict[Key, list[NDArray[np.float32]]]: ...
def embed(
    submission: Submission | str | Path,
    paths: Iterable[str | Path],
    layers: Sequence[Key] | None = None,
    frames: bool = False,
    *,
    device: str = "auto",
    precision: str = "fp32",
    max_duration: float | None = None,
    report: Report = silent,
) -> dict[Key, NDArray[np.float32]] | dict[Key, list[NDArray[np.float32]]]:
    """Encode audio files, and return the mean over the frames of each file, per layer.

    Decoding, resampling, batching and pooling are those of an evaluation. The result must fit in memory; the audio need
    not. `embed_parts` is for results that do not fit in memory.

    Args:
        submission: a submission, or the path of its file.
        paths: audio files of any sample rate, length and number of channels.
        layers: indices (a negative one counts from the last layer) or names; None for all.
        frames: return every frame, not the mean over them.
        device: "auto" (CUDA if it is available), "cpu" or "cuda".
        precision: the backbone's arithmetic, "fp32" or "bf16".
        max_duration: encode only this number of seconds from the start of each file; None for the whole file.
        report: receives the encoded seconds of audio and their total.

    Returns:
        By layer as requested (by index if ``layers`` is None): (files, width) float32 in the order of
        ``paths``. With ``frames``: a list with one array (frames, width) float32 per file, in the same order. They
        are rounded as in an evaluation: to 11 bits of the distance from the file's mean.

    Raises:
        UserError: a file is missing or damaged, the submission does not load, or there is no such layer or device.
            The headers of all files are checked before the backbone is loaded. Damage inside a file is detected when
            the file is decoded.
    """
    files = _files(paths)
    encoder = _Encoder.load(submission, files, layers, device, precision, max_duration)
    parts = encoder.parts(frames, report)
    if frames:
        lists = {key: [np.empty((0, 0), np.float32)] * len(files) for key in encoder.layers}
        for part in parts:
            for key, clips in (part.frames or {}).items():
                for position, clip in zip(part.positions, clips, strict=True):
                    lists[key][position] = clip
        return lists
    arrays = {key: np.empty((len(files), layer.width), np.float32) for key, (_, layer) in encoder.layers.items()}
    for part in parts:
        for key, vectors in part.vectors.items():
            arrays[key][part.positions] = vectors
    return arrays


def embed_parts(
    submission: Submission | str | Path,
    paths: Iterable[str | Path],
    layers: Sequence[Key] | None = None,
    frames: bool = False,
    *,
    device: str = "auto",
    precision: str = "fp32",
    max_duration: float | None = None,
    report: Report = silent,
) -> Iterator[Part]:
    """Encode audio files as `embed` does, in parts of about four minutes of audio with files of similar length.

    Arguments and errors are those of `embed`. The parts are not in the order of ``paths``: each has ``positions``.
    """
    encoder = _Encoder.load(submission, _files(paths), layers, device, precision, max_duration)
    return encoder.parts(frames, report)


@dataclass(frozen=True)
class _Encoder:
    """A loaded submission and the files to encode. ``layers`` maps a requested layer to its index and shape."""

    name: str
    extractor: Extractor
    items: list[Item]
    headers: Headers
    max_duration: float | None
    layers: dict[Key, tuple[int, Layer]]

    @classmethod
    def load(
        cls,
        submission: Submission | str | Path,
        files: list[Path],
        layers: Sequence[Key] | None,
        device: str,
        precision: str,
        max_duration: float | None,
    ) -> "_Encoder":
        entry = submission if isinstance(submission, Submission) else load_submission(submission)
        if precision not in PRECISIONS:
            raise UserError(f"Precision {precision!r} is unknown: choose from {', '.join(PRECISIONS)}.")
        if max_duration is not None and not 0 < max_duration < float("inf"):
            raise UserError(f"max_duration {max_duration} is not a positive number of seconds.")
        place = pick_device(device)
        headers = Headers()
        _, problems = headers.look(files)
        if problems:
            more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
            raise UserError(f"{'; '.join(problems[:_NAMED])}{more}: replace the files or take them out of the list.")
        try:
            extractor = Extractor.of(ready(entry.load(), place), place, precision)
        except UserError as error:
            raise UserError(f"Submission {entry.name} ({entry.path}): {error}") from error
        if not extractor.needs_audio:
            raise UserError(
                f"Submission {entry.name} has embeddings that were computed elsewhere: it cannot encode audio files."
            )
        items = [Item(str(file), file, (), str(file)) for file in files]
        chosen = _choose(entry.name, extractor.model.backbone.layers, layers)
        return cls(entry.name, extractor, items, headers, max_duration, chosen)

    def parts(self, frames: bool, report: Report) -> Iterator[Part]:
        """Yield one part per shard. The next shards are decoded while one is encoded."""
        rate = self.extractor.model.backbone.sample_rate
        # `plan` reads from a task how clips are cropped.
        task = Task(
            name="files", kind="classification", metric="accuracy", clips=Path(), max_duration=self.max_duration
        )
        shards = plan(task, self.items, rate, self.extractor.model.min_samples, self.headers)
        total = sum(clip.samples for shard in shards for clip in shard.clips) / rate
        done = 0.0

        def advance(seconds: float) -> None:
            nonlocal done
            done += seconds
            report(f"{self.name}: audio", done, total)

        places = {key: self._place(index) for key, (index, _) in self.layers.items()}
        for shard, decoded in ahead(shards, rate):
            if isinstance(decoded, UserError):
                raise UserError(f"{decoded}: replace the file or take it out of the list.") from decoded
            waveforms = [one.waveform for one in decoded]
            encoded = self.extractor.encode(shard.clips, waveforms, frames=frames, on_batch=advance)
            # The next shard may hold a clip of hours: the waveforms of this one must leave the memory first.
            del decoded, waveforms
            # Copies, so that keeping some layers does not keep the others in memory.
            vectors = {key: encoded.pooled[number][row].numpy().copy() for key, (number, row) in places.items()}
            pieces = None
            if encoded.pieces is not None:
                blocks = {number: encoded.frames(number) for number in {number for number, _ in places.values()}}
                pieces = {
                    key: [frames[row].numpy().copy() for frames in blocks[number]]
                    for key, (number, row) in places.items()
                }
            yield Part([clip.index for clip in shard.clips], vectors, pieces)

    def _place(self, layer: int) -> tuple[int, int]:
        """Return the block that holds a layer, and the layer's row in it."""
        return next(
            (number, block.layers.index(layer))
            for number, block in enumerate(self.extractor.blocks)
            if layer in block.layers
        )


def _files(paths: Iterable[str | Path]) -> list[Path]:
    if isinstance(paths, str | Path):
        raise UserError(f"{paths} is one path: give a list of files, such as [{str(paths)!r}].")
    return [Path(path) for path in paths]


def _choose(name: str, layers: Sequence[Layer], asked: Sequence[Key] | None) -> dict[Key, tuple[int, Layer]]:
    """Return index and shape of each requested layer.

    Raises:
        UserError: there is no such layer.
    """
    names = [layer.name for layer in layers]
    chosen: dict[Key, tuple[int, Layer]] = {}
    for key in range(len(layers)) if asked is None else asked:
        index = names.index(key) if isinstance(key, str) and key in names else key
        if isinstance(index, str) or not -len(layers) <= index < len(layers):
            raise UserError(
                f"Submission {name} has no layer {key!r}: it has 0 to {len(layers) - 1} ({', '.join(names)})."
            )
        chosen[key] = index % len(layers), layers[index]
    return chosen
