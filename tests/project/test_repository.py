"""The files that describe the project to tools and to readers agree with each other and with what they describe."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
CI = ROOT / ".github/workflows/ci.yml"


def accepted(schema: str, file: Path) -> bool:
    pytest.importorskip("check_jsonschema")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", str(file)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("schema", "file", "key"),
    [("citation-file-format", ROOT / "CITATION.cff", "authors:"), ("github-workflows", CI, "runs-on:")],
)
def test_a_file_that_others_read_follows_its_schema(schema: str, file: Path, key: str, tmp_path: Path) -> None:
    assert accepted(schema, file)
    broken = tmp_path / file.name
    broken.write_text(file.read_text().replace(key, "misspelt:", 1))
    assert not accepted(schema, broken), "the check accepts everything"


def test_the_citation_is_of_this_version_and_licence() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["project"]["version"]
    assert citation["license"] == PROJECT["project"]["license"]
    (author,) = PROJECT["project"]["authors"]
    assert citation["authors"] == [author]
    assert f"Copyright 2026 {author['name']}" in (ROOT / "LICENSE").read_text()


def test_the_changelog_has_a_section_for_this_version_below_what_is_not_released() -> None:
    sections = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert sections[:2] == ["Unreleased", PROJECT["project"]["version"]]


def test_every_package_tells_type_checkers_that_it_is_typed() -> None:
    assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"]["*"]
    for package in PROJECT["tool"]["mypy"]["packages"]:
        assert (ROOT / package / "py.typed").is_file(), package


def test_the_image_has_the_files_that_the_build_reads() -> None:
    """Without one of them the build of the image fails."""
    wanted = {PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]}
    for file in wanted:
        assert re.search(rf"^COPY .*\b{re.escape(file)} .*\./$", (ROOT / "Dockerfile").read_text(), re.MULTILINE), file


def test_the_hosted_workflow_runs_the_script_on_every_supported_python() -> None:
    (job,) = yaml.safe_load(CI.read_text())["jobs"].values()
    assert job["steps"][-1] == {"run": ".ci/run"}
    classifiers = "\n".join(PROJECT["project"]["classifiers"])
    assert job["strategy"]["matrix"]["python"] == re.findall(r":: (3\.\d+)$", classifiers, flags=re.MULTILINE)
    assert job["env"]["PYTHON"] == "python${{ matrix.python }}"


def test_the_script_hands_the_chosen_python_to_make(tmp_path: Path) -> None:
    """A stand-in for make writes down how it was called, since the real one installs for minutes."""
    make = tmp_path / "make"
    make.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    make.chmod(0o755)
    # Where Chromium or PostgreSQL is missing, the script would install it.
    apt = tmp_path / "apt-get"
    apt.write_text("#!/bin/sh\n")
    apt.chmod(0o755)
    path = f"{tmp_path}:/usr/bin:/bin"
    for environment, expected in (({}, "python3"), ({"PYTHON": "python3.12"}, "python3.12")):
        subprocess.run([ROOT / ".ci/run"], env={"PATH": path, **environment}, check=True)
        calls = (tmp_path / "calls").read_text().splitlines()
        assert calls == [f"{target} PYTHON={expected}" for target in ("xeus", "weights", "test", "test-slow")]
        (tmp_path / "calls").unlink()


def test_the_hooks_of_a_commit_run_the_checkers_of_make_lint() -> None:
    (local, _) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = [hook["entry"].removesuffix(" --force-exclude") for hook in local["hooks"]]
    recipe = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    linted = re.findall(r"^\t\$\(BIN\)/(\w+(?: check| format)?)", recipe, flags=re.MULTILINE)
    assert hooks == [f".venv/bin/{command}" for command in linted]
