"""An exported result: the backbone and the chosen probe as one MLflow model, from waveforms to labels.

An exported directory runs this module; `evaluator.export.retrain` makes such directories.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from evaluator.backbone import ready
from evaluator.features.clips import Clip
from evaluator.features.cuts import Cut
from evaluator.features.extraction import Encoded, Extractor
from evaluator.features.samples import Whole
from evaluator.features.scale import Scale
from evaluator.probes.automatic import stack_of
from evaluator.probes.heads import load
from evaluator.submission import Submission
from tasks.sound import Header, decode, read_header, resample
from tasks.support.errors import UserError
from tasks.task import Item, Kind
from tasks.windows import Window, cut_windows

if TYPE_CHECKING:
    import pandas as pd

ABOUT = "probe.json"
PARAMETERS = "probe.safetensors"
# Of the inputs of the probe; absent where it was trained on features as they are.
SCALE = "scale.safetensors"
BACKBONE = "backbone/submission.toml"
# Seconds of audio encoded at once. Only the use of memory depends on it.
_GROUP_SECONDS = 240.0


class ProbeInfo(BaseModel):
    """Description of an exported probe.

    Lengths are in seconds. ``labels`` are in the order of the scores. ``head`` is the source of the `Head`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    record: str
    submission: str
    task: str
    protocol: str
    kind: Kind
    labels: tuple[str, ...]
    track: str
    head: str
    layer: int
    layer_name: str
    seed: int
    precision: str
    max_duration: float | None
    window_width: float | None
    window_shift: float | None
    weights_sha256: str


@dataclass(frozen=True)
class _Piece:
    """One input of the backbone, from the input row ``row``: the whole clip, or one window of the recording."""

    row: int
    window: Window | None
    clip: Clip
    sound: Tensor


class ProbeModel:
    """The backbone and probe of the exported ``directory``.

    Raises:
        UserError: the backbone cannot be loaded, or is not the one that the probe was trained on.
    """

    def __init__(self, directory: Path, device: torch.device) -> None:
        from safetensors.torch import load_file

        self.info = ProbeInfo.model_validate_json((directory / ABOUT).read_bytes())
        self.head = load(self.info.head)
        # A stack computes many probes: here one group of one layer, with one probe.
        self.state = {name: tensor[None, None] for name, tensor in load_file(directory / PARAMETERS).items()}
        stored = directory / SCALE
        self.scale = Scale(**load_file(stored)) if stored.exists() else None
        model = ready(Submission.read(directory / BACKBONE).load(), device)
        if model.weights_sha256 != self.info.weights_sha256:
            raise UserError(
                f"The backbone that {directory / BACKBONE} loads (sha256 {model.weights_sha256}) is not the one this"
                f" probe was trained on (sha256 {self.info.weights_sha256}): restore the original weights and versions."
            )
        self.extractor = Extractor.of(model, device, self.info.precision)
        self.block, self.place = next(
            (number, block.layers.index(self.info.layer))
            for number, block in enumerate(self.extractor.blocks)
            if self.info.layer in block.layers
        )
        width = self.extractor.blocks[self.block].width
        self.stack = stack_of(self.head, width, len(self.info.labels), torch.device("cpu"))

    def predict(
        self, model_input: "pd.DataFrame | Sequence[Mapping[str, Any]]", params: dict[str, Any] | None = None
    ) -> "pd.DataFrame":
        """Predict the labels of sounds.

        Args:
            model_input: one row per sound: ``waveform`` (samples,) in [-1, 1] with ``sample_rate`` in Hz, or ``path``
                of an audio file.
            params: required by MLflow and not used.

        Returns:
            A table with the columns ``item`` (number of the input row), ``scores`` (logits, in the order of the labels)
            and ``probabilities``. Classification gives one row per sound, with its ``label``. Detection gives one row
            per window, with ``start`` and ``end`` in seconds and the ``labels`` whose probability is above one half.

        Raises:
            UserError: names the row without a usable sound.
        """
        import pandas as pd

        rows = model_input.to_dict("records") if isinstance(model_input, pd.DataFrame) else list(model_input)
        answers: list[dict[str, object]] = []
        for group in _groups(self._pieces(rows), _GROUP_SECONDS * self.extractor.model.backbone.sample_rate):
            clips, sounds = [piece.clip for piece in group], [piece.sound for piece in group]
            encoded = self.extractor.encode(clips, sounds, frames=self.head.reads_frames)
            answers += [self._answer(piece, row) for piece, row in zip(group, self._logits(encoded), strict=True)]
        return pd.DataFrame(answers, columns=self._columns())

    def _columns(self) -> list[str]:
        predicted = ["label"] if self.info.kind == "classification" else ["start", "end", "labels"]
        return ["item", *predicted, "probabilities", "scores"]

    def _pieces(self, rows: Sequence[Mapping[Any, Any]]) -> Iterator[_Piece]:
        rate = self.extractor.model.backbone.sample_rate
        for number, row in enumerate(rows):
            name, header, waveform = _read(row, number)
            for window, cut in self._cuts(header):
                piece = waveform[cut.start : cut.stop]
                piece = pad(piece, (0, max(0, cut.padded - len(piece))))
                sound = resample(piece, header.sample_rate, rate)
                samples = max(cut.resampled(header.sample_rate, rate), self.extractor.model.min_samples)
                item = Item(id=name, path=Path(name), labels=(), recording=name)
                yield _Piece(
                    number, window, Clip(number, item, header, cut, samples), pad(sound, (0, samples - len(sound)))
                )

    def _cuts(self, header: Header) -> list[tuple[Window | None, Cut]]:
        """The clip as the task crops it, or the windows of the task. A short recording gives one padded window."""
        width, shift = self.info.window_width, self.info.window_shift
        if width is None or shift is None:
            return [(None, Cut.whole(header, self.info.max_duration))]
        windows = cut_windows(header.frames / header.sample_rate, [], width, shift) or [Window(0.0, width, ())]
        return [(window, Cut.window(header, window.start, window.end)) for window in windows]

    @torch.inference_mode()
    def _logits(self, encoded: Encoded) -> Tensor:
        """Logits of the pieces, (pieces, classes)."""
        items = torch.arange(len(encoded.counts[self.block]))[None]
        if encoded.pieces is None:
            vectors = self._scaled(encoded.pooled[self.block][self.place])[None]
            return self.stack.logits(self.state, Whole(slice(None), items, vectors))[0, 0].T
        counts = encoded.counts[self.block]
        frames = [self._scaled(frames[self.place]) for frames in encoded.frames(self.block)]
        inputs = pad_sequence(frames, batch_first=True)
        valid = torch.arange(inputs.shape[1]) < counts[:, None]
        return self.stack.logits(self.state, Whole(slice(None), items, inputs[None], valid))[0, 0].T

    def _scaled(self, values: Tensor) -> Tensor:
        """Vectors or frames (..., width) as the probe reads them."""
        return values if self.scale is None else (values - self.scale.shift[0]) * self.scale.factor[0]

    def _answer(self, piece: _Piece, logits: Tensor) -> dict[str, object]:
        answer: dict[str, object] = {"item": piece.row, "scores": logits.tolist()}
        if piece.window is None:
            label = self.info.labels[int(logits.argmax())]
            return {**answer, "label": label, "probabilities": logits.softmax(0).tolist()}
        present = [label for label, score in zip(self.info.labels, logits.tolist(), strict=True) if score > 0]
        times = {"start": piece.window.start, "end": piece.window.end}
        return {**answer, **times, "labels": present, "probabilities": logits.sigmoid().tolist()}


def _read(row: Mapping[Any, Any], number: int) -> tuple[str, Header, Tensor]:
    """Read an input row: a name for messages, sample rate and length, and the whole waveform (samples,) float32."""
    waveform, path = row.get("waveform"), row.get("path")
    if isinstance(path, str | Path):
        file = Path(path)
        header = read_header(file)
        return str(file), header, decode(file, header, header.frames)
    name = f"row {number}"
    if waveform is None or np.ndim(waveform) != 1 or np.size(waveform) == 0:
        raise UserError(
            f"{name} has no sound: give `waveform`, the samples of one channel, and `sample_rate`, or a file's `path`."
        )
    rate = row.get("sample_rate")
    if not isinstance(rate, int | float | np.number) or not (rate >= 1 and float(rate).is_integer()):
        raise UserError(f"{name}: sample_rate is {rate!r}; give the waveform's sample rate in Hz, a whole number.")
    samples = torch.from_numpy(np.array(waveform, dtype=np.float32))
    if not torch.isfinite(samples).all():
        raise UserError(f"{name}: the waveform holds samples that are not finite.")
    return name, Header(int(rate), len(samples)), samples


def _groups(pieces: Iterator[_Piece], samples: float) -> Iterator[list[_Piece]]:
    """Groups of successive pieces, each of about ``samples`` samples."""
    group: list[_Piece] = []
    for piece in pieces:
        group.append(piece)
        if sum(len(member.sound) for member in group) >= samples:
            yield group
            group = []
    if group:
        yield group


def _load_pyfunc(path: str) -> ProbeModel:
    """Load the model; MLflow calls this function."""
    return ProbeModel(Path(path), torch.device("cuda" if torch.cuda.is_available() else "cpu"))
