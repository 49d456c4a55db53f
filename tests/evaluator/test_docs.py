"""What the documents show must run as it stands."""

import inspect
import json
import re
import textwrap
from pathlib import Path

import pytest
import torch
from builders import Run, save_checkpoint

from evaluator.backbones import LOADERS, loader
from evaluator.backbones.huggingface.families import FAMILIES
from evaluator.submission import Submission

ROOT = Path(__file__).parents[2]


def blocks(document: Path) -> list[str]:
    """Indented code blocks, dedented."""
    found = re.findall(r"(?:^ {4}.*\n|^\n)+", document.read_text(), flags=re.MULTILINE)
    return [textwrap.dedent(block).strip() + "\n" for block in found if block.strip()]


def test_the_readmes_submission_file_is_valid(tmp_path: Path) -> None:
    (block,) = (block for block in blocks(ROOT / "README.md") if block.startswith("[submission]"))
    directory = tmp_path / "submissions"
    directory.mkdir()
    (directory / "my-model.toml").write_text(block)
    assert Submission.read(directory / "my-model.toml").about is not None


def test_the_guides_own_model_takes_twelve_lines_passes_its_checks_and_is_evaluated(
    beans: Run, tmp_path: Path, clips_task: Path
) -> None:
    code_blocks = blocks(ROOT / "docs/submitting.md")
    (model,) = (block for block in code_blocks if "class Mine(" in block)
    (submission,) = (block for block in code_blocks if '"mine:Mine"' in block)
    assert len([line for line in model.splitlines() if line.strip()]) <= 12
    (tmp_path / "mine.py").write_text(model)
    (tmp_path / "mine.toml").write_text(submission)
    code, out, err = beans("check", tmp_path / "mine.toml", "--json")
    assert code == 0, out + err
    says = {finding["name"]: finding["says"] for finding in json.loads(out)["findings"]}
    # Strides of 320, 2 and 2 samples at 32 kHz.
    for layer in ("0 of 32 channels, a frame about every 10", "1 of 64 channels, a frame about every 20",
                  "2 of 128 channels, a frame about every 40"):  # fmt: skip
        assert f"layer {layer} ms" in says["layers"]
    assert "unequal length share a batch" in says["alone as in a batch"]
    quick = ("--trials", 2, "--seeds", 1, "--json")
    code, out, err = beans("submit", tmp_path / "mine.toml", "--tasks", clips_task, "--track", "ta,twa", *quick)
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    assert [row["track"] for row in rows] == ["ta", "twa"]
    for row in rows:
        assert [layer["name"] for layer in row["layers"]] == ["conv 1", "conv 2", "conv 3"]
        # Chance is 0.25; convolutions that were never trained tell the task's tones apart a little.
        assert all(0 <= layer["test"] <= 1 for layer in row["layers"]) and row["valid"] > 0.25


@pytest.mark.parametrize("document", ["submitting.md", "backbones.md"])
def test_a_submission_that_a_document_shows_has_only_keys_that_its_loader_takes(document: str, tmp_path: Path) -> None:
    shown = [block for block in blocks(ROOT / "docs" / document) if block.startswith("[submission]")]
    assert shown
    for block in shown:
        (tmp_path / "shown.toml").write_text(block)
        entry = Submission.read(tmp_path / "shown.toml")
        inspect.signature(loader(entry.loader)).bind(**entry.arguments)


def test_the_page_of_backbones_has_every_loader_with_every_key_and_every_family() -> None:
    """A loader or a key that is not there is found by those alone who read the code."""
    text = (ROOT / "docs/backbones.md").read_text()
    for name in LOADERS:
        section = text.partition(f"\n## `{name}`\n")[2].partition("\n## ")[0]
        assert section, f"{name} has no section"
        if name == "python":  # its keys are in submitting.md, with the example
            section = (ROOT / "docs/submitting.md").read_text()
        for key in set(inspect.signature(loader(name)).parameters) - {"base"}:
            assert re.search(rf"^\|[^|]*`{key}`", section, flags=re.MULTILINE), f"{name} says nothing of {key}"
    for family in FAMILIES:
        assert f"`{family}`" in text, family
    for path in (ROOT / "submissions").glob("*.toml"):
        listed = [name.replace("*", "") for name in re.findall(r"`([a-z0-9-]+\*?)`", text.partition("\n\n- ")[0])]
        assert any(path.stem == name or (name.endswith("-") and path.stem.startswith(name)) for name in listed), path


def test_the_shown_pretraining_of_a_biomamba_trains_and_is_loaded(tmp_path: Path) -> None:
    (code,) = (block for block in blocks(ROOT / "docs/backbones.md") if "BioMambaForPreTraining" in block)
    speech = save_checkpoint(tmp_path / "speech", "group")
    # The same lines, at a size for tests, with convolutions from here instead of from the hub.
    small = "hidden_size=32, num_hidden_layers=2, state_size=8, head_dim=8, conv_dim=[16] * 7"
    code = code.replace("num_clusters=200", f"num_clusters=200, {small}").replace("my-biomamba", str(tmp_path / "mine"))
    code, replaced = re.subn(r'"facebook/[^)]*', repr(str(speech)), code)
    assert replaced == 1
    names = {
        "waveforms": torch.randn(2, 16_000),
        "clusters": torch.randint(200, (2, 49)),
        "mask": torch.ones(2, 16_000),
    }
    exec(code, names)
    gradients = [parameter.grad for parameter in names["model"].biomamba.layers.parameters()]
    assert all(gradient is not None and gradient.any() for gradient in gradients)
    (tmp_path / "m.toml").write_text('[submission]\nname = "m"\nloader = "biomamba"\nmodel = "mine"\n')
    assert len(Submission.read(tmp_path / "m.toml").load().layers) == 3


def test_every_document_that_is_linked_is_there() -> None:
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links {target}"
