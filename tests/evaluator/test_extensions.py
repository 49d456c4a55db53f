"""An installed package adds a task source or a study, as the guide shows, and one that is broken spoils no command."""

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import soundfile
from builders import Run

from tasks.manifest import read_manifest
from tasks.task import load_task

ROOT = Path(__file__).parents[2]


def guide(marker: str) -> str:
    """The indented block of docs/extending.md that contains the marker, dedented."""
    text = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
    (block,) = (block for block in re.findall(r"(?:^ {4}.*\n|^\n)+", text, flags=re.M) if marker in block)
    return textwrap.dedent(block).strip() + "\n"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory of installed packages: the two of the guide, and one that cannot be imported."""
    root = tmp_path / "site"
    for name, module, group in (("station", "source", "beans.sources"), ("whistle", "study", "beans.studies")):
        (root / name).mkdir(parents=True)
        (root / name / f"{module}.py").write_text(guide(f"{module.upper()} = {module.title()}("))
        points = guide(f'[project.entry-points."{group}"]').replace('[project.entry-points."', "[").replace('"]', "]")
        install(root, name, points.replace('"', ""))
    install(root, "ruin", "[beans.sources]\nruin = ruin.absent:SOURCE\n[beans.studies]\nruin = ruin.absent:STUDY\n")
    return root


def install(root: Path, name: str, entry_points: str) -> None:
    folder = root / f"{name}-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(entry_points)


def run(site: Path, *arguments: object) -> tuple[int, str, str]:
    """The command line in a process of its own, which has these packages installed: exit code, stdout, stderr."""
    path = os.pathsep.join([str(site), str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "evaluator", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200"},
        cwd=site,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def archive(root: Path) -> Path:
    for split, count in (("train", 3), ("valid", 1), ("test", 1)):
        for label, pitch in (("wren", 3000), ("robin", 1500)):
            for number in range(count):
                file = root / split / label / f"{label}-{split}-{number}.wav"
                file.parent.mkdir(parents=True, exist_ok=True)
                time = np.arange(8000) / 16_000
                soundfile.write(file, 0.3 * np.sin(2 * np.pi * (pitch + 10 * number) * time), 16_000)
    return root


def test_the_guides_source_prepares_a_task_file_of_the_users_own(
    site: Path, beans: Run, own_home: Path, tmp_path: Path
) -> None:
    task = tmp_path / "birds.toml"
    task.write_text(guide('name = "birds"'))
    sound = archive(tmp_path / "archive")
    code, out, err = run(site, "tasks", "prepare", task, "--from", "station", "--source", sound)
    assert (code, out) == (0, "birds: prepared (station, 16-bit FLAC)\n"), err
    manifest = read_manifest(load_task(str(task), data=own_home / "data"))
    assert {split: len(items) for split, items in manifest.items.items()} == {"train": 6, "valid": 2, "test": 2}
    heard, rate = soundfile.read(manifest.items["test"][0].path)
    assert (rate, len(heard)) == (16_000, 8000) and manifest.items["test"][0].id == "robin-test-0"
    # The file names its source, and what is prepared is left alone.
    code, out, err = run(site, "tasks", "prepare", task, "--source", sound)
    assert (code, out) == (0, "birds: was prepared already (station, 16-bit FLAC)\n"), err
    code, out, err = run(site, "tasks", "show", task, "--json")
    assert code == 0 and json.loads(out)["sources"] == ["station"], err
    # This process has no such package, and reads what was prepared all the same.
    code, out, err = beans("tasks", "verify", task, "--json")
    assert code == 0, out + err
    submission = tmp_path / "floor.toml"
    submission.write_text('[submission]\nname = "floor"\nloader = "statistics"\nsample_rate = 16000\n')
    code, out, err = beans("submit", submission, "--tasks", task, "--trials", 2, "--seeds", 1, "--json")
    assert code == 0 and json.loads(out.splitlines()[-1])["task"] == "birds", err


def test_the_help_and_the_errors_know_the_source_of_a_package(site: Path) -> None:
    code, out, err = run(site, "tasks", "prepare", "--help")
    words = " ".join(re.sub(r"[│\s]+", " ", out).split())
    assert code == 0 and "station: read from the archive of our station" in words, err
    assert "The task source 'ruin' of the package ruin cannot be imported" in words
    code, _, err = run(site, "tasks", "prepare", "watkins", "--from", "station", "--source", site)
    assert code == 2 and err.startswith("Error: Task watkins is ") and "--from station does not have it." in err
    code, _, err = run(site, "tasks", "prepare", "watkins", "--from", "ruin")
    assert code == 2 and err.count("\n") == 1, err
    assert err.startswith("Error: The task source 'ruin' of the package ruin cannot be imported (ModuleNotFoundError:")
    code, out, _ = run(site, "tasks", "list", "--json")
    assert code == 0 and len(json.loads(out)) == 14, "a package that is broken spoils other commands"


def test_the_guides_study_is_listed_takes_its_options_and_runs(site: Path, own_home: Path, tmp_path: Path) -> None:
    code, out, err = run(site, "study", "--help")
    assert code == 0, err
    assert re.search(r"whistle +Whistle at some pitches\.", out) and re.search(r"vram +Compare the memory", out)
    assert re.search(r"ruin +The study 'ruin' of the package ruin cannot be imported", out)
    code, out, err = run(site, "study", "whistle", "--help")
    assert code == 0 and "Claim: Every pitch can be whistled." in out and "--pitches" in out, err
    assert "[default: 500,2000]" in out and "Example: beans study whistle --pitches 500,1000" in out
    code, out, err = run(
        site, "study", "whistle", "--pitches", "440,880,1760", "--scale", "linear", "--twice", "--json"
    )
    file = own_home / "studies/whistle.txt"
    assert code == 0, err
    assert json.loads(out) == {"verdict": ["The claim holds at 3 of 3 pitches."], "files": [str(file)]}
    assert file.read_text() == "(440.0, 880.0, 1760.0) linear True"
    code, out, err = run(site, "study", "whistle", "--out", tmp_path / "here")
    assert out == f"The claim holds at 2 of 2 pitches.\nWritten: {tmp_path / 'here/whistle.txt'}\n", err
    assert (tmp_path / "here/whistle.txt").read_text() == "(500.0, 2000.0) log False"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("ruin",), "Error: The study 'ruin' of the package ruin cannot be imported (ModuleNotFoundError: "),
        (("whistle", "--pitches", "high"), 'Error: --pitches: "high" is no number; write for example'),
        (("whistle", "--pitches", ","), "Error: --pitches names no number: write for example --pitches 1,5,10"),
    ],
)
def test_a_study_that_cannot_run_is_one_sentence(site: Path, arguments: tuple[str, ...], says: str) -> None:
    code, out, err = run(site, "study", *arguments)
    assert (code, out) == (2, "") and err.startswith(says) and err.count("\n") == 1, err
