"""What the documents show must run as it stands."""

import re
import textwrap
from pathlib import Path

from builders import Run

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


def test_the_guides_own_model_takes_twelve_lines_and_is_evaluated(beans: Run, tmp_path: Path, clips_task: Path) -> None:
    (block,) = (block for block in blocks(ROOT / "docs/submitting.md") if block.startswith("import torch"))
    assert len([line for line in block.splitlines() if line.strip()]) <= 12
    (tmp_path / "mine.py").write_text(block)
    (tmp_path / "mine.toml").write_text('[submission]\nname = "mine"\nloader = "python"\ntarget = "mine:Mine"\n')
    code, _, err = beans("submit", tmp_path / "mine.toml", "--tasks", clips_task, "--trials", 2, "--seeds", 1)
    assert code == 0, err


def test_every_document_that_is_linked_is_there() -> None:
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links {target}"
