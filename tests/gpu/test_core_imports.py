"""`make gpu` runs with the python3 of a machine that has torch but not the rest: what it imports must not need more."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# A blocked package looks as if it were not installed, to an import and to a search for it: transformers searches.
BLOCK = """
import sys

BLOCKED = {"pydantic", "soundfile", "soxr", "optuna", "mlflow", "typer", "streamlit", "sqlalchemy"}


class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in BLOCKED else self.finder.find_spec(name, path, target)

    def find_distributions(self, *arguments):
        return getattr(self.finder, "find_distributions", lambda *none: ())(*arguments)


sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", BLOCK + code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_blocked_packages_are_really_missing() -> None:
    run("""
import importlib, importlib.util
for name in BLOCKED:
    assert importlib.util.find_spec(name) is None, name
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        continue
    raise AssertionError(name)
""")


def test_everything_the_gpu_command_imports() -> None:
    run("""
import importlib
for name in (
    "evaluator.backbones", "evaluator.backbones.biomamba", "evaluator.backbones.espnet",
    "evaluator.backbones.embeddings",
    "evaluator.backbones.huggingface", "evaluator.backbones.python", "evaluator.backbones.statistics",
    "evaluator.backbones.torchaudio", "evaluator.backbones.biomamba.register", "evaluator.features.extraction",
    "evaluator.features.store",
    "evaluator.probes.fit", "evaluator.probes.heads", "evaluator.probes.metrics", "leaderboard.records.protocol",
    "evaluator.efficiency",
    "evaluator.efficiency.__main__", "evaluator.efficiency.curve",
    "evaluator.studies.vram.measure", "evaluator.studies.vram.report",
    "benchmarks.gpu", "benchmarks.models", "benchmarks.sweep", "transformers", "torchaudio",
):
    importlib.import_module(name)
assert not BLOCKED & {name.partition(".")[0] for name in sys.modules}
""")


def test_encoding_and_training_import_nothing_more() -> None:
    run("""
import tomllib
from pathlib import Path
from types import SimpleNamespace
import torch
from evaluator.features.cuts import Cut
from tasks.sound import Header
from evaluator.backbones import biomamba, huggingface, torchaudio
from evaluator.backbone import ready
from evaluator.features.clips import Clip
from evaluator.features.extraction import Extractor
from evaluator.probes.automatic import stack_of
from evaluator.probes.heads import HEADS
from evaluator.probes.fit import fit
from evaluator.features.samples import Pooled
from leaderboard.records.protocol import Protocol

small = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, conv_dim=[16] * 7,
             num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2)
encoders = [huggingface.load(weights="random", architecture=name, config=small) for name in ("hubert", "wavlm")]
aves = tomllib.loads(Path("submissions/random-aves.toml").read_text())["submission"]["config"]
aves |= dict(extractor_conv_layer_config=[[16, 10, 5], *[[16, 3, 2]] * 4, *[[16, 2, 2]] * 2], encoder_embed_dim=16,
             encoder_num_layers=1, encoder_num_heads=2, encoder_ff_interm_features=32)
encoders.append(torchaudio.load(weights="random", config=aves))
mamba = dict(hidden_size=16, num_hidden_layers=1, head_dim=8, state_size=4, conv_dim=[16] * 7)
encoders.append(biomamba.load(weights="random", config=mamba))
for encoder in encoders:
    extractor = Extractor.of(ready(encoder), torch.device("cpu"))
    item = SimpleNamespace(path=Path("noise.wav"), id="noise")
    clip = Clip(0, item, Header(16000, 8000), Cut(0, 8000, 8000), 8000)
    encoded = extractor.encode([clip], [torch.randn(8000)], frames=True)
    assert encoded.pooled[0].shape == (2, 1, 16), type(encoder)
for metric, targets in (("accuracy", torch.tensor([0, 1])), ("map", torch.eye(2))):
    samples = Pooled(torch.randn(2, 1, 4), targets, (0,))
    stack = stack_of(HEADS.get("ta"), 4, 2, torch.device("cpu"))
    fit(stack, samples, samples, metric=metric, rates=[1e-3], seeds=(0,), protocol=Protocol(epochs=1))
assert not BLOCKED & {name.partition(".")[0] for name in sys.modules}
""")


@pytest.mark.slow
def test_a_fresh_process_measures_with_nothing_more(tmp_path: Path) -> None:
    """The study and the profiles of `make gpu`, which run where no submission file can be read."""
    run(f"""
from pathlib import Path
from evaluator.efficiency import fresh
from evaluator.efficiency.__main__ import answer
from evaluator.studies.vram import measure as study
from evaluator.studies.vram.report import write_report

convolutions = [[16, 10, 5], *[[16, 3, 2]] * 4, *[[16, 2, 2]] * 2]
study.AVES |= dict(extractor_conv_layer_config=convolutions, encoder_embed_dim=16, encoder_num_layers=1,
                   encoder_num_heads=2, encoder_ff_interm_features=32)
study.BIOMAMBA |= dict(hidden_size=16, num_hidden_layers=1, head_dim=8, state_size=4, conv_dim=[16] * 7)
for way in study.ways("cpu", ("fp32", "bf16"), "last"):
    if not way.unavailable:
        found = answer({{**way.question, "device": "cpu", "precision": way.precision, "seconds": 1.0}})
        assert found["peak_bytes"] > found["weights_bytes"] > 0, way.label
        assert found["multiply_adds"] > 0, way.label
line = study.Line(way, ({{"seconds": 1.0, "outcome": "measured", "peak_bytes": 2, "weights_bytes": 1}},))
write_report(study.Measurements("cpu", "cpu", "last", None, {{}}, "", (line,)), Path({str(tmp_path / "study.json")!r}))
assert not BLOCKED & {{name.partition(".")[0] for name in sys.modules}}
""")
