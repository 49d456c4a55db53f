"""Keys of features, records and profiles hang on what is computed, not on how the code that computes it is written."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import stages
from builders import save_checkpoint, write_clips_task, write_submission

from evaluator.backbones import embeddings as features_loader
from evaluator.backbones import python as python_loader
from evaluator.backbones import statistics
from evaluator.backbones.biomamba import encoder as biomamba_encoder
from evaluator.backbones.espnet import encoder as espnet_encoder
from evaluator.backbones.huggingface import encoder
from evaluator.backbones.statistics import encoder as statistics_encoder
from evaluator.backbones.torchaudio import encoder as torchaudio_encoder
from evaluator.efficiency import operations
from evaluator.features import cuts as audio
from evaluator.features import lookup, pooling, shards
from evaluator.probes import automatic, logistic, metrics, search, trainer
from evaluator.probes import fit as probes
from evaluator.probes.heads.ta import linear
from evaluator.probes.heads.twa import attention
from leaderboard.ranking import bootstrap

ROOT = Path(__file__).parents[2]
PACKAGES = ("evaluator", "leaderboard", "tasks")

# Prints the key of a backbone's features, the names of their shards, the id of a record and what a profile's id holds.
KEYS = """
import json, sys
from pathlib import Path
import torch
from evaluator.backbone import ready
from evaluator.efficiency.__main__ import describe
from evaluator.features.extraction import Extractor
from evaluator.results.identity import identity
from evaluator.features.store import FeatureStore
from leaderboard.records.protocol import Protocol
from evaluator.submission import Submission
from tasks.manifest import read_manifest
from tasks.task import load_task

import evaluator
where, home = Path(sys.argv[1]), Path(sys.argv[2])
assert Path(evaluator.__file__).is_relative_to(sys.argv[3]), "another copy of the package was imported"
cpu = torch.device("cpu")
manifest = read_manifest(load_task(str(where / "task" / "tones.toml"), data=home))
keys = {}
for name in ("statistics", "checkpoint", "mine", "vectors"):
    submission = Submission.read(where / f"{name}.toml")
    extractor = Extractor.of(ready(submission.load(), cpu), cpu)
    features = FeatureStore(home).extract(extractor, manifest, frames=False)
    keys[name] = {
        "features": features.directory.name,
        "shards": {split: [shard.name for shard in shards] for split, shards in features.plans.items()},
        "records": [identity(submission, features, track, Protocol(), None) for track in ("ta", "twa")],
        "profile": {
            key: value for key, value in describe({"submission": str(submission.path)}, "cpu", "fp32").items()
            if key in ("weights_sha256", "attention", "versions", "options")
        },
    }
print(json.dumps(keys, sort_keys=True))
"""
MINE = """
import torch
from evaluator.backbone import Layer

class Mine:
    sample_rate, layers = 16_000, [Layer("mean", 1), Layer("deviation", 1)]

    def encode(self, waveforms, lengths):
        # One frame per clip.
        return [waveforms.mean(1)[:, None, None], waveforms.std(1)[:, None, None]], torch.ones_like(lengths)
"""


def run(root: Path, *arguments: str, code: str | None = None) -> str:
    """Standard output of a fresh Python that imports the packages from ``root``."""
    path = os.pathsep.join(map(str, (root, ROOT / "tests" / "evaluator", ROOT / "tests" / "tasks")))
    command = [sys.executable, *(("-c", code) if code else ()), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=root, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def copy(directory: Path) -> Path:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, directory / package, ignore=shutil.ignore_patterns("__pycache__"))
    return directory


class Rewritten(ast.NodeTransformer):
    """Other words in every docstring and every error sentence; comments are lost by parsing."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            node.value.value += " In other words."
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        for part in ast.walk(node):
            if isinstance(part, ast.JoinedStr):
                part.values.append(ast.Constant(" In other words."))
        return node


def rename(root: Path, module: ModuleType, name: str) -> None:
    """Give a module's file or folder another name, and change every import of it."""
    assert module.__file__ is not None
    old = Path(module.__file__).relative_to(ROOT)
    if old.name == "__init__.py":
        (root / old.parent).rename(root / old.parent.with_name(name))
    else:
        (root / old).rename(root / old.with_name(f"{name}.py"))
    new = f"{module.__name__.rpartition('.')[0]}.{name}"
    for file in root.rglob("*.py"):
        file.write_text(re.sub(rf"{re.escape(module.__name__)}(?=[. ])", new, file.read_text()))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("inputs")
    write_clips_task(directory / "task", per_label=5)
    write_submission(directory / "statistics.toml", 'loader = "statistics"')
    checkpoint = save_checkpoint(directory / "small", "layer")
    write_submission(directory / "checkpoint.toml", f'loader = "huggingface"\nmodel = "{checkpoint}"')
    (directory / "own_model.py").write_text(MINE)
    write_submission(directory / "mine.toml", 'loader = "python"\ntarget = "own_model:Mine"')
    (directory / "embeddings").mkdir()
    ids = np.array([f"audio/{file.name}" for file in sorted((directory / "task" / "audio").iterdir())])
    vectors = np.random.default_rng(1).standard_normal((len(ids), 3)).astype(np.float32)
    np.savez(directory / "embeddings" / "tones.npz", ids=ids, last=vectors)
    write_submission(directory / "vectors.toml", 'loader = "features"\ndirectory = "embeddings"\nsample_rate = 16000')
    return directory


@pytest.fixture(scope="module")
def keys(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    return read_keys(ROOT, inputs, tmp_path_factory.mktemp("home"))


def read_keys(root: Path, inputs: Path, home: Path) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads(run(root, str(inputs), str(home), str(root), code=KEYS))
    return found


@pytest.mark.slow
def test_other_comments_docstrings_messages_and_file_names_keep_every_key(
    tmp_path: Path, inputs: Path, keys: dict[str, dict[str, object]]
) -> None:
    """Else every correction of a comment would throw away weeks of extracted features."""
    root = copy(tmp_path / "copy")
    changed = 0
    for file in root.rglob("*.py"):
        before = file.read_text()
        file.write_text("# A new comment.\n" + ast.unparse(Rewritten().visit(ast.parse(before))) + "\n")
        changed += file.read_text() != before
    rename(root, shards, "pieces")
    rename(root, trainer, "training")
    rename(root, statistics, "moments")
    rename(root, features_loader, "vectors")
    rename(root, python_loader, "own")
    assert changed > 100
    assert read_keys(root, inputs, tmp_path / "home") == keys


def test_the_same_audio_in_another_place_and_with_other_times_keeps_every_key(
    tmp_path: Path, inputs: Path, keys: dict[str, dict[str, object]]
) -> None:
    """Else a data set that is copied to another disk would be extracted again, and its results would not be found."""
    moved = tmp_path / "elsewhere"
    shutil.copytree(inputs, moved)
    for file in moved.rglob("*.wav"):
        os.utime(file, (1_000_000_000, 1_000_000_000))
    assert read_keys(ROOT, moved, tmp_path / "home") == keys


def test_other_samples_of_the_same_size_and_an_edited_model_of_ones_own_change_the_keys(
    tmp_path: Path, inputs: Path, keys: dict[str, dict[str, object]]
) -> None:
    """Else old features would be taken for those of new audio or of a new model."""
    moved = tmp_path / "elsewhere"
    shutil.copytree(inputs, moved)
    file = next(iter(sorted(moved.rglob("*.wav"))))
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)
    source = moved / "own_model.py"
    source.write_text(source.read_text().replace("waveforms.std(1)", "waveforms.var(1)"))
    found = read_keys(ROOT, moved, tmp_path / "home")
    for name in ("statistics", "checkpoint", "mine"):
        assert found[name]["shards"] != keys[name]["shards"]
        assert found[name]["records"] != keys[name]["records"]
        assert (found[name]["features"] == keys[name]["features"]) == (name != "mine")


def test_no_stage_computes_other_numbers_under_the_same_version() -> None:
    """Else features and records of the old code would be taken for those of the new."""
    assert stages.compare(json.loads(stages.GOLDEN.read_text())) == {}


# One change of what each stage computes: the module, a piece of its source, and what replaces it.
CHANGES: dict[str, tuple[object, str, str]] = {
    "decoding": (audio, "int((end - start) * header.sample_rate)", "int((end - start) * header.sample_rate) - 1"),
    "extraction": (pooling, "masked.sum(1, dtype=torch.float32)", "masked.amax(1).float()"),
    "head ta": (linear, "torch.sum(derivative, -1, out=gradients", "torch.sum(derivative.abs(), -1, out=gradients"),
    "head twa": (attention, "of_scores -= weight * of_scores.sum(-1, keepdim=True)", "of_scores -= weight"),
    "automatic heads": (automatic, "gradient[part] += more", "gradient[part] += more.abs()"),
    "training": (probes, "(0.9, 0.999)", "(0.9, 0.99)"),
    "search": (search, "(-choice.valid, choice.layer)", "(-choice.valid, -choice.layer)"),
    "logistic": (logistic, "weight.square().sum()", "weight.abs().sum()"),
    "metrics": (metrics, "descending=True, stable=True", "descending=False, stable=True"),
    "bootstrap": (bootstrap, "generator.integers(groups,", "generator.integers(groups - 1,"),
    "profile": (operations, "// 2 + formula", "+ formula"),
    "loader biomamba": (biomamba_encoder, "list(output.hidden_states)", "list(output.hidden_states)[::-1]"),
    "loader espnet": (espnet_encoder, "[*first, *blocks], frames", "[*blocks, *first], frames"),
    "loader features": (lookup, ".astype(np.float32)", ".astype(np.float32) * 2"),
    "loader huggingface": (encoder, "captured.append(args[0] if", "captured.append(-args[0] if"),
    "loader python": (python_loader, "torch.manual_seed(seed)", "torch.manual_seed(seed + 1)"),
    "loader statistics": (statistics_encoder, "correction=0", "correction=1"),
    "loader torchaudio": (torchaudio_encoder, "[*first, *blocks]", "[*blocks, *first]"),
}


@pytest.mark.slow
def test_a_change_of_what_a_stage_computes_is_noticed(tmp_path: Path) -> None:
    """The test above must not be one that passes whatever is done to a stage."""
    root = copy(tmp_path / "copy")
    for module, old, new in CHANGES.values():
        file = root / Path(str(module.__file__)).relative_to(ROOT)  # type: ignore[attr-defined]
        text = file.read_text()
        assert old in text, f"{file.name} has no {old!r} any more: change another piece of it"
        file.write_text(text.replace(old, new, 1))
    problems = json.loads(run(root, str(ROOT / "tests" / "golden" / "stages.py")))
    expected = set(stages.stages())
    assert set(problems) == expected
    for name, sentence in problems.items():
        assert sentence.startswith(f"Stage {name} computes other numbers than before: raise VERSION in ")
    assert expected <= set(CHANGES), "a new stage needs a change here"


def test_a_raised_version_changes_the_keys_that_hold_it(
    tmp_path: Path, inputs: Path, keys: dict[str, dict[str, object]]
) -> None:
    """Else raising a VERSION would be of no use."""
    root = copy(tmp_path / "copy")
    for module in (statistics, probes):
        file = root / Path(str(module.__file__)).relative_to(ROOT)
        file.write_text(re.sub(r"^VERSION = ", "VERSION = 1", file.read_text(), count=1, flags=re.MULTILINE))
    found = read_keys(root, inputs, tmp_path / "home")
    assert found["statistics"]["features"] != keys["statistics"]["features"]
    assert found["statistics"]["profile"] != keys["statistics"]["profile"]
    assert found["checkpoint"]["features"] == keys["checkpoint"]["features"]
    assert set(found["checkpoint"]["records"]).isdisjoint(keys["checkpoint"]["records"])  # type: ignore[call-overload]


def test_golden_values_are_not_renewed_under_the_same_version(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else `make golden` would hide the change that the values are there to show."""
    kept = json.loads(stages.GOLDEN.read_text())
    kept["metrics"]["values"]["map"][0] += 0.1
    changed = tmp_path / "golden.json"
    changed.write_text(json.dumps(kept))
    monkeypatch.setattr(stages, "GOLDEN", changed)
    assert stages._write() == 2
    assert "raise VERSION in evaluator/probes/metrics.py" in capsys.readouterr().err
    assert json.loads(changed.read_text()) == kept
