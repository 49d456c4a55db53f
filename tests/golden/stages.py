"""What every stage computes on small fixed inputs, in a few numbers, beside the VERSION that stands for its code.

``golden.json`` holds these numbers. Where a stage computes other numbers while its VERSION is the same, features and
records of the old code would be taken for those of the new. `make golden` writes the file anew, and refuses while a
VERSION is not raised.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor

from evaluator.backbone import Backbone, Layer, ready
from evaluator.backbones import biomamba as biomamba_loader
from evaluator.backbones import embeddings as features_loader
from evaluator.backbones import espnet as espnet_loader
from evaluator.backbones import huggingface as huggingface_loader
from evaluator.backbones import python as python_loader
from evaluator.backbones import statistics as statistics_loader
from evaluator.backbones import torchaudio as torchaudio_loader
from evaluator.efficiency import operations, point
from evaluator.features import cuts as audio
from evaluator.features import extraction
from evaluator.features.clips import Clip
from evaluator.features.lookup import read_table
from evaluator.features.samples import Frames, Pooled, Samples
from evaluator.probes import automatic, logistic, metrics, search
from evaluator.probes import fit as probes
from evaluator.probes.automatic import stack_of
from evaluator.probes.head import Head, Stack
from evaluator.probes.heads import HEADS
from leaderboard.ranking import bootstrap
from leaderboard.records.protocol import Protocol
from tasks.sound import Header, read_header
from tasks.task import Item

GOLDEN = Path(__file__).with_name("golden.json")
# Of the root mean square of each output. Processors differ by far less, and a change that counts is far beyond.
TOLERANCE = 1e-4

Values = dict[str, list[float]]
PAPERS = Protocol.standard("beans-probe/papers")


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        version: its declared VERSION.
        declared: the file that declares it.
        compute: returns its numbers: for each output the mean, the root mean square and a weighted mean.
    """

    version: int
    declared: str
    compute: Callable[[], Values]


def stages() -> dict[str, Stage]:
    """Every stage by name; the loader of ESPnet only where ESPnet is installed."""
    found = {
        "decoding": _stage(audio, _decoding),
        "extraction": _stage(extraction, _extraction),
        "training": _stage(probes, _training),
        "automatic heads": _stage(automatic, _automatic),
        "search": _stage(search, _search),
        "logistic": _stage(logistic, _logistic),
        "metrics": _stage(metrics, _metrics),
        "bootstrap": _stage(bootstrap, _bootstrap),
        "profile": _stage(point, _profile),
        "loader biomamba": _stage(biomamba_loader, _biomamba),
        "loader features": _stage(features_loader, _features),
        "loader huggingface": _stage(huggingface_loader, _huggingface),
        "loader python": _stage(python_loader, _python),
        "loader statistics": _stage(statistics_loader, _statistics),
        "loader torchaudio": _stage(torchaudio_loader, _torchaudio),
    }
    for track in HEADS.names():
        # Heads of installed packages have their own tests.
        if HEADS.distribution(track) is None:
            module = sys.modules[HEADS.source(track).partition(":")[0]]
            found[f"head {track}"] = _stage(module, partial(_head, HEADS.get(track)), HEADS.get(track).version)
    if find_spec("espnet2"):
        found["loader espnet"] = _stage(espnet_loader, _espnet)
    return found


def compare(golden: dict[str, Any]) -> dict[str, str]:
    """What is wrong with each stage whose numbers or VERSION are not those of ``golden``, in a sentence."""
    problems = {}
    for name, stage in stages().items():
        kept = golden.get(name)
        if kept is None:
            problems[name] = f"Stage {name} has no golden values: run `make golden`."
        elif kept["version"] != stage.version:
            problems[name] = (
                f"VERSION of {name} is {stage.version}, golden values are of {kept['version']}: run `make golden`."
            )
        elif not _equal(stage.compute(), kept["values"]):
            problems[name] = (
                f"Stage {name} computes other numbers than before: raise VERSION in {stage.declared}, then run"
                " `make golden`. If the numbers were not meant to change, the change is a fault."
            )
    return problems


def _equal(found: Values, kept: Values) -> bool:
    return found.keys() == kept.keys() and all(
        len(found[case]) == len(kept[case])
        and np.allclose(found[case], kept[case], rtol=0, atol=TOLERANCE * abs(kept[case][1]) + 1e-9)
        for case in kept
    )


def _stage(module: Any, compute: Callable[[], Values], version: int | None = None) -> Stage:
    """A stage of one module; ``version`` where the module declares it in an object and not as VERSION."""
    file = Path(module.__file__)
    depth = module.__name__.count(".") + (2 if file.name == "__init__.py" else 1)
    return Stage(module.VERSION if version is None else version, "/".join(file.parts[-depth:]), compute)


def _summary(values: Any) -> list[float]:
    """Mean, root mean square and a weighted mean, which sees an exchange or a shift; then the shape."""
    array = np.asarray(values, dtype=np.float64)
    flat = array.ravel()
    weights = np.cos(0.37 * np.arange(flat.size) ** 1.1)
    numbers = [flat.mean(), np.sqrt((flat**2).mean()), (flat * weights).mean() * 3]
    return [float(f"{number:.8g}") for number in numbers] + [float(size) for size in array.shape]


def _sound(samples: int, seed: int = 0) -> Tensor:
    """(samples,) of a rising tone in noise."""
    time = np.arange(samples) / 16_000
    noise = np.random.default_rng(seed).standard_normal(samples)
    return torch.tensor(0.3 * np.sin(2 * np.pi * (300 + 150 * seed + 400 * time) * time) + 0.05 * noise).float()


@contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


# The stages.


def _decoding() -> Values:
    found: Values = {}
    with _directory() as directory:
        for rate, kind in ((16_000, "wav"), (44_100, "flac"), (22_050, "ogg"), (48_000, "mp3")):
            left, right = (_sound(2 * rate, seed).numpy() for seed in (0, 1))
            file = directory / f"sound.{kind}"
            soundfile.write(file, np.stack([left, right], 1), rate)
            header = read_header(file)
            cuts = [
                audio.Cut.whole(header, None),
                audio.Cut.whole(header, 0.7),
                audio.Cut.window(header, 0.3, 0.9),
                audio.Cut.window(header, 1.5, 2.5),
            ]
            for number, waveform in enumerate(audio.load(file, header, cuts, 16_000)):
                found[f"{kind} {number}"] = _summary(waveform)
    return found


class Ramp(torch.nn.Module):
    """Two layers of one hop and one of another, with weights that need no random numbers."""

    sample_rate = 16_000
    layers = (Layer("a", 6), Layer("b", 6), Layer("c", 4))
    exact_masking = True

    def encode(self, waveforms: Tensor, lengths: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        short, long = waveforms.unfold(1, 200, 100), waveforms.unfold(1, 400, 300)
        angles = torch.arange(1, 7) * 0.11
        first = torch.stack([(short * torch.cos(angle * torch.arange(200))).mean(-1) for angle in angles], -1)
        last = torch.stack([(long * torch.sin(angle * torch.arange(400))).mean(-1) for angle in angles[:4]], -1)
        return [first, first.abs().sqrt(), last], [
            (lengths - 200) // 100 + 1,
            (lengths - 200) // 100 + 1,
            (lengths - 400) // 300 + 1,
        ]


def _clip(number: int, length: int) -> Clip:
    item = Item(f"{number}", Path(f"{number}.wav"), f"{number}", (0,))
    return Clip(number, item, Header(16_000, length), audio.Cut(0, length, length), length)


def _extraction() -> Values:
    model = ready(Ramp())
    extractor = extraction.Extractor.of(model, torch.device("cpu"))
    lengths = (16_000, 9_000, 16_000, 24_000, 5_000)
    clips = [_clip(number, length) for number, length in enumerate(lengths)]
    encoded = extractor.encode(clips, [_sound(length, seed) for seed, length in enumerate(lengths)], frames=True)
    assert encoded.spreads is not None and encoded.halves is not None
    found = {f"pooled {number}": _summary(tensor) for number, tensor in enumerate(encoded.pooled)}
    found |= {f"spread {number}": _summary(tensor) for number, tensor in enumerate(encoded.spreads)}
    found |= {f"frames {number}": _summary(tensor) for number, tensor in enumerate(encoded.halves)}
    return found | {f"counts {number}": _summary(tensor) for number, tensor in enumerate(encoded.counts)}


def _samples(frames_wanted: bool, count: int, seed: int, *, labels: int, multi: bool) -> Samples:
    """Items of two layers; the first channels say which class an item is of, with noise."""
    generator = np.random.default_rng(seed)
    classes = generator.integers(labels, size=count)
    targets = torch.tensor(classes)
    if multi:
        several = np.eye(labels)[classes] + (generator.random((count, labels)) < 0.2)
        targets = torch.tensor(several.clip(0, 1)).float()
    lengths = generator.integers(3, 9, size=count)
    frames = [
        torch.tensor(generator.standard_normal((2, length, 5)) + 2 * np.eye(5)[label]).half()
        for length, label in zip(lengths, classes, strict=True)
    ]
    if frames_wanted:
        places = [(values, 0, values.shape[1]) for values in frames]
        return Frames(places, [0, 1], targets, [0, 1], 5)
    return Pooled(torch.stack([values.float().mean(1) for values in frames]), targets, [0, 1])


def _stack(head: Head, width: int, classes: int) -> Stack:
    return stack_of(head, width, classes, torch.device("cpu"))


class Perceptron(torch.nn.Sequential):
    """A head that draws random numbers."""

    def __init__(self, width: int, classes: int) -> None:
        layers = torch.nn.Linear(width, 8), torch.nn.ReLU(), torch.nn.Dropout(0.3), torch.nn.Linear(8, classes)
        super().__init__(*layers)

    def forward(self, inputs: Tensor, valid: None) -> Tensor:
        return super().forward(inputs)


class Recurrent(torch.nn.Module):
    """A head that is run alone."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.recurrent, self.linear = torch.nn.GRU(width, 4, batch_first=True), torch.nn.Linear(4, classes)

    def forward(self, inputs: Tensor, valid: Tensor) -> Tensor:
        return self.linear(self.recurrent(inputs)[0][torch.arange(len(inputs)), valid.sum(1) - 1])


def _automatic() -> Values:
    """Heads without a derivative of their own, in each of the ways in which a stack is run."""
    found: Values = {}
    for way, head in (
        ("all", replace(HEADS.get("twa"), stacked=None)),
        ("rates", Head("perceptron", "one hidden layer", "vectors", version=1, make=Perceptron)),
        ("none", Head("recurrent", "the last state", "frames", version=1, make=Recurrent)),
    ):
        stack = _stack(head, 5, 3)
        assert isinstance(stack, automatic.AutomaticStack) and stack.together == way
        found |= {f"{way} {name}": values for name, values in _head(head).items()}
    return found


def _head(head: Head) -> Values:
    """Logits of two probes of two layers, and where one epoch of training takes them."""
    found: Values = {}
    for multi in (False, True):
        learned, asked = (_samples(head.reads_frames, 12, seed, labels=3, multi=multi) for seed in (3, 4))
        stack = _stack(head, 5, 3)
        singles = [stack.initial(layer, 1) for layer in (0, 1)]
        state = {name: torch.stack([one[name] for one in singles])[:, None] for name in singles[0]}
        found[f"logits {multi}"] = _summary(probes.predict(stack, state, asked, 1))
        fit = probes.fit(
            stack, learned, asked, metric="map" if multi else "accuracy", rates=[0.01], seeds=(0,),
            protocol=replace(PAPERS, epochs=1), keep=torch.tensor([1, 1]),
        )  # fmt: skip
        assert fit.state is not None
        found |= {f"{name} {multi}": _summary(values) for name, values in fit.state.items()}
    return found


def _training() -> Values:
    found: Values = {}
    stack = _stack(HEADS.get("ta"), 5, 4)
    for metric in ("accuracy", "map"):
        multi = metric == "map"
        train, valid = (_samples(False, count, seed, labels=4, multi=multi) for count, seed in ((70, 0), (30, 1)))
        for name, protocol, rates in (
            ("last", Protocol(epochs=8), [3e-2, 0.3]),
            ("patient", replace(PAPERS, epochs=30, patience=3), [1e-3, 3e-2]),
        ):
            fit = probes.fit(stack, train, valid, metric=metric, rates=rates, seeds=(0, 1), protocol=protocol)
            found[f"{metric} {name}"] = _summary(fit.valid.nan_to_num(nan=-1.0))
            found[f"{metric} {name} loss"] = _summary(fit.loss.nan_to_num(nan=-1.0))
        kept = probes.fit(
            stack, train, valid, metric=metric, rates=[1e-2], seeds=(0, 1), protocol=Protocol(),
            keep=torch.tensor([3, 6]),
        )  # fmt: skip
        assert kept.state is not None
        found |= {f"{metric} {name}": _summary(values) for name, values in kept.state.items()}
    return found


def _search() -> Values:
    def train(rates: list[float], begin: float, end: float) -> list[search.Tried]:
        # Layers and rates tie at the top.
        best = [[min(0.8, round(1 - abs(np.log10(rate) + 1 - layer) / 10, 6)) for layer in range(3)] for rate in rates]
        losses = [[abs(np.log10(rate) + 0.7 - layer) for layer in range(3)] for rate in rates]
        return [search.Tried(valid, [9, 9, 9], loss, 3) for valid, loss in zip(best, losses, strict=True)]

    found: Values = {}
    for name, protocol in (("searched", Protocol()), ("grid", Protocol(grid=(1e-5, 1e-3, 1e-3, 5e-2)))):
        with _directory() as directory:
            trials = search.search(train, protocol, storage=f"sqlite:///{directory}/optuna.db", study_name="golden")
        choice = search.select(trials)
        found[f"{name} rates"] = _summary([np.log(trial.lr) for trial in trials])
        found[f"{name} choice"] = [choice.layer, choice.valid, np.log(choice.lr), choice.epoch]
        best = [search.best_of_layer(trials, layer) for layer in range(3)]
        found[f"{name} layers"] = _summary([np.log(one.lr) for one in best])
    return found


def _logistic() -> Values:
    found: Values = {}
    for metric in ("accuracy", "map"):
        splits = []
        for count, seed in ((60, 0), (30, 1), (30, 2)):
            samples = _samples(False, count, seed, labels=3, multi=metric == "map")
            assert isinstance(samples, Pooled)
            splits.append((samples.features[:, 0], samples.targets))
        for strength, weight, bias in logistic._path(metric, *splits[0]):
            found[f"{metric} {strength:g}"] = _summary(torch.cat([weight, bias[:, None]], 1))
        one = logistic.logistic_regression(metric, *splits)
        found[f"{metric} chosen"] = [np.log(one.strength), one.valid, one.test]
    return found


def _predictions(metric: str) -> tuple[Any, Any, list[str]]:
    generator = np.random.default_rng(5)
    scores = generator.standard_normal((2, 40, 4)).round(1).astype(np.float32)
    recordings = [f"recording {number // 3}" for number in range(40)]
    if metric == "accuracy":
        return scores, generator.integers(3, size=40), recordings
    targets = (generator.random((40, 4)) < 0.3).astype(np.uint8)
    targets[:, 3] = 0
    return scores, targets, recordings


def _metrics() -> Values:
    found: Values = {}
    for metric in ("accuracy", "map"):
        scores, targets, _ = _predictions(metric)
        found[metric] = _summary(metrics.score(metric, torch.from_numpy(scores), torch.from_numpy(targets)))
        found |= {
            f"{metric} {name}": _summary(value) for name, value in metrics.secondary(metric, scores, targets).items()
        }
    return found


def _bootstrap() -> Values:
    found: Values = {}
    for metric in ("accuracy", "map"):
        scores, targets, recordings = _predictions(metric)
        drawn = bootstrap.resampled(metric, scores, targets, recordings, resamples=300, seed=7)
        found[metric] = _summary(drawn)
    return found


def _profile() -> Values:
    backbone = statistics_loader.load()
    noise, lengths = _sound(32_000)[None], torch.tensor([32_000])
    linear = torch.nn.Sequential(torch.nn.Linear(7, 11), torch.nn.Conv1d(5, 3, 2))
    counts = operations.count(linear, lambda: linear(torch.zeros(2, 5, 7)))
    moments = operations.count(backbone, lambda: backbone.encode(noise, lengths))
    return {"linear": _summary(counts.multiply_adds), "statistics": _summary(moments.multiply_adds)}


# The loaders.


@torch.inference_mode()
def _encoded(backbone: Backbone) -> list[Tensor]:
    """Every layer's valid frames of two clips, each alone."""
    model = ready(backbone).backbone
    outputs = []
    for samples in (24_000, 17_003):
        layers, counts = model.encode(_sound(samples)[None], torch.tensor([samples]))
        valid = [counts] * len(layers) if isinstance(counts, Tensor) else counts
        outputs += [layer[0, : int(count[0])] for layer, count in zip(layers, valid, strict=True)]
    return outputs


def _outputs(name: str, backbone: Backbone) -> Values:
    return {f"{name} {number}": _summary(layer) for number, layer in enumerate(_encoded(backbone))}


def _statistics() -> Values:
    return _outputs("default", statistics_loader.load()) | _outputs("16 kHz", statistics_loader.load(16_000, 20, 10))


def _huggingface() -> Values:
    from huggingface_cases import CASES, write_checkpoint

    found: Values = {}
    for name in ("hubert", "wavlm-layer", "whisper", "ast", "wav2vec2-conformer"):
        case = CASES[name]
        with _directory() as directory:
            write_checkpoint(directory, case)
            found |= _outputs(name, huggingface_loader.load(model=str(directory)))
    return found


def _torchaudio() -> Values:
    from test_torchaudio_loader import CONFIGS, randomised, save

    found: Values = {}
    for name, config in CONFIGS.items():
        with _directory() as directory:
            save(directory, randomised(config), config)
            backbone = torchaudio_loader.load(
                config="small.torchaudio.model_config.json", checkpoint="small.torchaudio.pt", base=directory
            )
            found |= _outputs(name, backbone)
    return found


def _biomamba() -> Values:
    from test_biomamba import TINY

    return _outputs("tiny", biomamba_loader.load(weights="random", config=TINY))


def _espnet() -> Values:
    import yaml
    from test_espnet_loader import XEUS

    with _directory() as directory:
        (directory / "config.yaml").write_text(yaml.safe_dump(XEUS))
        return _outputs("xeus", espnet_loader.load(config="config.yaml", weights="random", base=directory))


_OWN_MODEL = """
import torch
from evaluator.backbone import Layer

class Model(torch.nn.Linear):
    sample_rate, layers = 16_000, [Layer("only", 3)]

    def __init__(self):
        super().__init__(2, 3)

    def encode(self, waveforms, lengths):
        return [], lengths
"""


def _python() -> Values:
    """What the loader adds to a user's model: the random state it starts from."""
    with _directory() as directory:
        (directory / "mine.py").write_text(_OWN_MODEL)
        model = python_loader.load("mine:Model", base=directory, seed=3)
    assert isinstance(model, torch.nn.Module)
    return {name: _summary(value.detach()) for name, value in model.state_dict().items()}


def _features() -> Values:
    generator = np.random.default_rng(2)
    with _directory() as directory:
        layers = {"first": generator.standard_normal((4, 3)), "second": generator.standard_normal((4, 2))}
        np.savez(directory / "task.npz", ids=np.array(list("abcd")), **layers)
        table = read_table(directory / "task.npz")
    return {name: _summary(values) for name, values in table.layers.items()}


def _write() -> int:
    """Write golden.json anew; a stage whose numbers changed under the same VERSION is refused."""
    kept = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    wrong = [text for text in compare(kept).values() if "raise VERSION" in text]
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
        return 2
    current = {name: {"version": stage.version, "values": stage.compute()} for name, stage in stages().items()}
    # Where ESPnet is not installed, its values stay.
    content = json.dumps({**kept, **current}, indent=1, sort_keys=True)
    GOLDEN.write_text(content + "\n")
    return 0


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("evaluator", "tasks")]
    if "--write" in sys.argv:
        sys.exit(_write())
    print(json.dumps(compare(json.loads(GOLDEN.read_text()))))
