"""What the documents show must run as it stands."""

import inspect
import json
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from builders import Run, save_checkpoint, write_clips_task

from evaluator.backbones import LOADERS, Loader
from evaluator.backbones.huggingface.families import FAMILIES
from evaluator.cli.new_submission import EXAMPLE
from evaluator.cli.submit import submit
from evaluator.submission import Submission

ROOT = Path(__file__).parents[2]


def blocks(document: Path) -> list[str]:
    """Indented code blocks, dedented."""
    found = re.findall(r"(?:^ {4}.*\n|^\n)+", document.read_text(), flags=re.MULTILINE)
    return [textwrap.dedent(block).strip() + "\n" for block in found if block.strip()]


def own_loaders() -> dict[str, Loader]:
    """Those of the suite, whatever is installed here."""
    return {name: LOADERS.get(name) for name in LOADERS.names() if LOADERS.distribution(name) is None}


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
    # Where the guide's commands write files, and where readers are owed a table of their own.
    directory = tmp_path / "submissions"
    directory.mkdir()
    (directory / "mine.py").write_text(model)
    (directory / "mine.toml").write_text(submission)
    code, out, err = beans("check", directory / "mine.toml", "--json")
    assert code == 0, out + err
    says = {finding["name"]: finding["says"] for finding in json.loads(out)["findings"]}
    # Strides of 320, 2 and 2 samples at 32 kHz.
    for layer in ("0 of 32 channels, a frame about every 10", "1 of 64 channels, a frame about every 20",
                  "2 of 128 channels, a frame about every 40"):  # fmt: skip
        assert f"layer {layer} ms" in says["layers"]
    assert "unequal length share a batch" in says["alone as in a batch"]
    quick = ("--trials", 2, "--seeds", 1, "--json")
    code, out, err = beans("submit", directory / "mine.toml", "--tasks", clips_task, "--track", "ta,twa", *quick)
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    assert [row["track"] for row in rows] == ["ta", "twa"]
    for row in rows:
        assert [layer["name"] for layer in row["layers"]] == ["conv 1", "conv 2", "conv 3"]
        # Chance is 0.25; convolutions that were never trained tell the task's tones apart a little.
        assert all(0 <= layer["test"] <= 1 for layer in row["layers"]) and row["valid"] > 0.25


def test_the_guides_command_without_questions_writes_a_pinned_submission(
    beans: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    commands = "".join(blocks(ROOT / "docs/submitting.md")).replace("\\\n", " ").splitlines()
    run = [line for line in (*commands, EXAMPLE.partition("answer: ")[2]) if "submissions new --name" in line]
    assert len(run) == 2
    for command in run:
        code, _, err = beans(*shlex.split(command)[1:])
        assert code == 0, err
        (file,) = (tmp_path / "submissions").iterdir()
        assert len(Submission.read(file).arguments["revision"]) == 40
        file.unlink()


def test_the_guide_has_every_option_of_submit() -> None:
    table = (ROOT / "docs/submitting.md").read_text().partition("\n## Running it\n")[2]
    for name in set(inspect.signature(submit).parameters) - {"submission", "as_json"}:
        assert re.search(rf"^\|.*`--{name.replace('_', '-')}\b", table, flags=re.MULTILINE), name


@pytest.mark.parametrize("document", ["submitting.md", "backbones.md"])
def test_a_submission_that_a_document_shows_has_only_keys_that_its_loader_takes(document: str, tmp_path: Path) -> None:
    shown = [block for block in blocks(ROOT / "docs" / document) if block.startswith("[submission]")]
    assert shown
    for block in shown:
        (tmp_path / "shown.toml").write_text(block)
        entry = Submission.read(tmp_path / "shown.toml")
        inspect.signature(LOADERS.get(entry.loader).load).bind(**entry.arguments)


def test_the_page_of_backbones_has_every_loader_with_every_key_and_every_family() -> None:
    """A loader or a key that is not there is found by those alone who read the code."""
    text = (ROOT / "docs/backbones.md").read_text()
    for name, loader in own_loaders().items():
        section = text.partition(f"\n## `{name}`\n")[2].partition("\n## ")[0]
        assert section, f"{name} has no section"
        if name == "python":  # its keys are in submitting.md, with the example
            section = (ROOT / "docs/submitting.md").read_text()
        for key in set(inspect.signature(loader.load).parameters) - {"base"}:
            assert re.search(rf"^\|[^|]*`{key}`", section, flags=re.MULTILINE), f"{name} says nothing of {key}"
    for family in FAMILIES:
        assert f"`{family}`" in text, family
    for path in (ROOT / "submissions").glob("*.toml"):
        listed = [name.replace("*", "") for name in re.findall(r"`([a-z0-9-]+\*?)`", text.partition("\n\n- ")[0])]
        assert any(path.stem == name or (name.endswith("-") and path.stem.startswith(name)) for name in listed), path


@pytest.mark.parametrize("document", ["submitting.md", "backbones.md"])
def test_the_tables_of_loaders_have_what_the_loaders_declare(document: str) -> None:
    """Else the document would offer what does not exist, or say nothing of what does."""
    table = (ROOT / "docs" / document).read_text().partition("\n| `loader` | for |")[2].partition("\n\n")[0]
    rows = {row[1]: row for row in re.finditer(r"^\| \[?`(\w+)`\S* \| (.*?) \| (.*) ?\|$", table, re.MULTILINE)}
    assert {name: row[2] for name, row in rows.items()} == {name: found.help for name, found in own_loaders().items()}
    if document == "submitting.md":
        for name, found in own_loaders().items():
            for key in found.missing({}):
                assert f"`{key}`" in rows[name][3], f"{name} needs {key}"


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


@pytest.mark.slow
def test_the_page_of_mlflow_runs_as_it_stands_and_so_do_the_lines_that_export_prints(
    beans: Run, tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python that was told nothing looks for runs and models in a database of its own, which it makes."""
    root = tmp_path / "project"
    home = root / ".beans"
    home.mkdir(parents=True)
    shutil.copy(empty_database, home / "mlflow.db")
    # Quicker than the task of the examples, whose name no other task may have.
    task = write_clips_task(tmp_path / "task", "quick-calls")
    monkeypatch.chdir(root)
    monkeypatch.setenv("BEANS_HOME", str(home))
    statistics = ROOT / "submissions/statistics.toml"
    code, out, err = beans("submit", statistics, "--tasks", task, "--limit", 30, "--json")
    assert code == 0, err
    record = json.loads(out.splitlines()[-1])
    name = Path(record["record"]).stem.rpartition(".")[2]
    named = ("--submission", statistics, "--task", task, "--register", "NAME")
    code, out, err = beans("records", "export-probe", name, *named)
    assert code == 0, err
    printed = out[out.index("import mlflow") :]
    shutil.copy(task.parent / "audio/clip_000.wav", root / "a.wav")
    shown = [block for block in blocks(ROOT / "docs/mlflow.md") if block.startswith("import mlflow")]
    assert len(shown) == 2
    shown = [block.replace("mini-calls", "quick-calls") for block in shown]
    seen = "\nimport json\nprint(json.dumps([len(runs), len(curve), len(trials)]))"
    for place, lines in ((root, "\n".join(shown) + seen), (tmp_path, f"{printed}\nprint(model.metadata.run_id)")):
        command = [sys.executable, "-W", "ignore", "-c", lines]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert not list(place.glob("mlflow.db")), "it looked elsewhere than in the home"
        if place == root:
            assert json.loads(done.stdout.splitlines()[-1]) == [1, record["n_layers"], 16 * record["n_layers"]]
