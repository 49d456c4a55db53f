"""A loader is one module: what it declares is all that the suite knows of it, also where another package adds it."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from builders import Run, write_submission

from evaluator.backbone import ready
from evaluator.backbones import LOADERS
from evaluator.submission import Submission, keys_of
from tasks.support.errors import UserError

ROOT = Path(__file__).parents[2]
ABOUT = ("--family", "F", "--description", "D", "--authors", "A", "--licence", "MIT", "--pretraining", "none")

# Annotations are text here, as in many packages, and the encoder's class is in another module.
DECLARATION = """
from __future__ import annotations

from pathlib import Path
from typing import Literal

from evaluator.backbones import Loader, Package

VERSION = 1
Kind = Literal["plain", "rectified"]


def load(*, width: int, kind: Kind = "plain", base: Path = Path()) -> object:
    from chirp_model import Chirp

    return Chirp(width, kind)


LOADER = Loader(
    name="chirp",
    help="encoders of chirps",
    version=VERSION,
    load=load,
    template='''
width = 32  # channels per layer
kind = "plain"  # or "rectified"
''',
    packages=(Package("no-such-package", "the loader chirp", "`pip install it`"),),
)
"""
MODEL = """
import torch
from evaluator.backbone import Layer

class Chirp(torch.nn.Module):
    sample_rate, min_samples, exact_masking = 16_000, 1_200, True

    def __init__(self, width, kind):
        super().__init__()
        self.layers = [Layer("one", width), Layer("two", width)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.one, self.two = torch.nn.Conv1d(1, width, 400, 320), torch.nn.Conv1d(width, width, 2, 2)

    def encode(self, waveforms, lengths):
        one, frames = self.one(waveforms[:, None]).relu(), (lengths - 400) // 320 + 1
        return [one.mT, self.two(one).relu().mT], [frames, frames // 2]
"""

Install = Callable[..., None]


def guide(marker: str) -> str:
    """The indented block of docs/extending.md that contains the marker, dedented."""
    text = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
    (block,) = (block for block in re.findall(r"(?:^ {4}.*\n|^\n)+", text, flags=re.MULTILINE) if marker in block)
    return textwrap.dedent(block).strip() + "\n"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a package of one module, ``PACKAGE.loader``, that adds the loader ``name``."""
    site = tmp_path / "site-packages"
    site.mkdir()
    (site / "chirp_model.py").write_text(MODEL)
    monkeypatch.syspath_prepend(site)
    known = set(sys.modules)

    def do(source: str = DECLARATION, name: str = "chirp", package: str = "chirp", points: str | None = None) -> None:
        (site / package).mkdir()
        (site / package / "loader.py").write_text(source)
        about = site / f"{package}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(points or f"[beans.loaders]\n{name} = {package}.loader:LOADER\n")
        vars(LOADERS).pop("_entry_points", None)

    yield do
    vars(LOADERS).pop("_entry_points", None)
    for name in {one for one in sys.modules if "chirp" in one} - known:
        del sys.modules[name]


def test_a_loader_of_another_package_is_used_like_one_of_the_suite(
    install: Install, beans: Run, tmp_path: Path, clips_task: Path, own_home: Path
) -> None:
    points = guide('entry-points."beans.loaders"').replace('[project.entry-points."', "[").replace('"', "")
    install(guide("LOADER = Loader("), points=points)
    file = tmp_path / "mine.toml"
    code, out, err = beans("submissions", "new", "--help")
    assert code == 0 and re.search(r"\bchirp,", out), err
    code, out, err = beans("submissions", "loaders", "--json")
    assert {"name": "chirp", "for": "encoders of chirps", "package": "chirp 1.0", "error": ""} in json.loads(out)
    _, out, _ = beans("doctor", "--json")
    found = {check["check"]: check["found"] for check in json.loads(out)}
    assert found["loader chirp"] == "chirp 1.0"

    code, _, err = beans("submissions", "new", file, "--loader", "chirp", *ABOUT)
    assert code == 2 and "--set width=… is missing (width (channels of each layer))" in err
    code, _, err = beans("submissions", "new", file, "--loader", "chirp", "--set", "width=16", *ABOUT)
    assert code == 0, err
    assert 'loader = "chirp"\nwidth = 16\n# seed = 0  # of the random weights\n' in file.read_text()

    code, out, err = beans("check", file, "--json")
    assert code == 0, out + err
    code, out, err = beans("submit", file, "--tasks", clips_task, "--trials", 2, "--seeds", 1, "--json")
    assert code == 0, err
    row = json.loads(out.splitlines()[-1])
    record = json.loads(Path(row["record"]).read_text())
    assert record["submission"]["loader"] == "chirp"
    assert [layer["width"] for layer in record["layers"]] == [16, 16]

    # An exported model cannot run without the package.
    name = Path(row["record"]).stem.rpartition(".")[2]
    code, out, err = beans("records", "export-probe", name, "--submission", file, "--task", clips_task)
    assert code == 0, err
    (requirements,) = (own_home / "probes").glob("*/requirements.txt")
    assert "chirp==1.0" in requirements.read_text().split()


def test_what_another_packages_loader_needs_is_among_what_doctor_shows(install: Install, beans: Run) -> None:
    install()
    _, out, _ = beans("doctor", "--json")
    found = {check["check"]: check["found"] for check in json.loads(out)}
    assert found["no-such-package"] == "not installed; needed for the loader chirp: `pip install it`"


def test_a_key_of_another_packages_loader_is_checked_by_its_signature(install: Install, tmp_path: Path) -> None:
    """Also where its annotations are text."""
    install()
    file = write_submission(tmp_path / "mine.toml", 'loader = "chirp"\nwidth = 4\nkind = "rounded"')
    with pytest.raises(UserError, match="kind: \"rounded\" is none of 'plain' or 'rectified'"):
        Submission.read(file).check_keys()


BROKEN = {
    "does not import": (
        "import no_such_module\n",
        r"imported \(ModuleNotFoundError: No module named 'no_such_module'\)",
    ),
    "crashes": ("raise RuntimeError('no\\nlicence')\n", r"imported \(RuntimeError: no licence\)"),
    "no VERSION": (
        DECLARATION.replace("    version=VERSION,\n", ""),
        r"imported \(ValueError: LOADER needs a version:",
    ),
    "VERSION is text": (DECLARATION.replace("VERSION = 1", "VERSION = '1'"), r"\(ValueError: LOADER needs a version:"),
    "no LOADER": ("def load():\n    return None\n", r"imported \(AttributeError: .*LOADER"),
    "no Loader": ("LOADER = 1\n", "must name a evaluator.backbones.Loader and not a int"),
    "another name": (DECLARATION.replace('name="chirp"', 'name="chirps"'), "it declares the other name 'chirps'"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_loader_of_another_package_is_one_sentence_and_only_where_it_is_used(
    install: Install, beans: Run, tmp_path: Path, clips_task: Path, statistics: Path, case: str
) -> None:
    """Else one careless package would take the whole suite down."""
    source, sentence = BROKEN[case]
    install(source)
    expect_broken(
        beans,
        clips_task,
        tmp_path,
        "chirp",
        f"The loader 'chirp' of the package chirp cannot be .*{sentence}",
    )
    code, out, err = beans("check", statistics)
    assert code == 0, out + err


def test_a_name_that_two_packages_declare_is_one_sentence_and_only_where_it_is_used(
    install: Install, beans: Run, tmp_path: Path, clips_task: Path, statistics: Path
) -> None:
    """Else it would be a matter of luck which model a result is of."""
    install(DECLARATION.replace('"chirp"', '"espnet"'), name="espnet")
    expect_broken(
        beans,
        clips_task,
        tmp_path,
        "espnet",
        "The loader 'espnet' is registered by this suite and by the package chirp: uninst",
    )
    code, out, err = beans("check", statistics)
    assert code == 0, out + err


def test_a_name_of_two_other_packages_is_used_by_neither(
    install: Install, beans: Run, tmp_path: Path, clips_task: Path
) -> None:
    install()
    install(package="other")
    sentence = "The loader 'chirp' is registered by the package chirp and by the package other: uninstall one of"
    expect_broken(beans, clips_task, tmp_path, "chirp", sentence)


def expect_broken(beans: Run, task: Path, directory: Path, name: str, sentence: str) -> None:
    """The commands that list go on working and say what is wrong; those that use the loader end with code 2."""
    file = write_submission(directory / f"{name}.toml", f'loader = "{name}"\nwidth = 4')
    code, out, err = beans("submissions", "loaders")
    assert code == 0 and re.search(rf"^Warning: {sentence}", err, re.MULTILINE), err
    assert re.search(rf"{name} .*broken", out) and re.search("statistics .*the suite", out)
    code, out, err = beans("doctor", "--json")
    found = {check["check"]: check for check in json.loads(out)}
    assert code == 0 and found[f"loader {name}"]["status"] == "optional"
    assert re.match(sentence, found[f"loader {name}"]["found"])
    for command in (("submissions", "new", "--help"), ("submissions", "list", "--directory", directory), ("--help",)):
        code, _, err = beans(*command)
        assert code == 0 and "Traceback" not in err, err
    for command in (("check", file, "--json"), ("submit", file, "--tasks", task), ("profile", file, "--seconds", "1")):
        code, out, err = beans(*command)
        assert code == 2, out + err
        said = " ".join(finding["says"] for finding in json.loads(out)["findings"]) if out else err
        assert re.search(sentence, said) and "Traceback" not in err, said
    code, _, err = beans("submissions", "new", directory / "new.toml", "--loader", name, *ABOUT)
    assert code == 2 and re.search(sentence, err) and not (directory / "new.toml").exists()


def test_the_version_of_a_loader_is_in_the_key_and_its_own_source_is_not(install: Install, tmp_path: Path) -> None:
    """Else a corrected comment would discard features, or features of an older loader would be taken for new ones."""
    file = write_submission(tmp_path / "mine.toml", 'loader = "chirp"\nwidth = 4')
    install()
    first = ready(Submission.read(file).load()).versions
    assert first["chirp"] == 1
    # The model's module declares no version, so its source counts.
    assert set(first) == {"chirp", "Chirp"}
    module = tmp_path / "site-packages/chirp/loader.py"
    for old, new, version in (
        ("VERSION = 1", "VERSION = 1  # of the first release", 1),
        ("VERSION = 1 ", "VERSION = 2 ", 2),
    ):
        module.write_text(module.read_text().replace(old, new))
        del sys.modules["chirp.loader"]
        # Python compares times in seconds.
        shutil.rmtree(module.parent / "__pycache__", ignore_errors=True)
        assert ready(Submission.read(file).load()).versions == {**first, "chirp": version}


def test_a_model_of_ones_own_is_keyed_by_its_source_also_where_it_has_a_version_or_a_loader_of_its_own(
    tmp_path: Path,
) -> None:
    """Nobody raises that version for the suite."""
    (tmp_path / "own_chirp.py").write_text("VERSION, LOADER = 3, object()\n" + MODEL.replace("width, kind", "width=4"))
    file = write_submission(tmp_path / "mine.toml", 'loader = "python"\ntarget = "own_chirp:Chirp"')
    versions = ready(Submission.read(file).load()).versions
    assert set(versions) == {"python", "Chirp"}
    source = (tmp_path / "own_chirp.py").read_bytes()
    assert versions["Chirp"] == hashlib.sha256(source).hexdigest()


@pytest.mark.parametrize("name", [name for name in LOADERS.names() if LOADERS.distribution(name) is None])
def test_a_template_has_every_key_of_its_loader_with_an_example_that_the_loader_takes(name: str) -> None:
    loader, model = LOADERS.get(name), keys_of(name)
    examples = tomllib.loads(loader.template)
    assert set(examples) == set(model.model_fields)
    model.model_validate(examples)
    assert {*loader.files, *loader.code, *loader.pretrained} <= set(model.model_fields)
    # Each line has its comment, which is also the question.
    assert all(re.fullmatch(r"\w+ = .+?  # .+", line) for line in loader.template.strip().splitlines())


def test_commands_that_load_no_model_do_not_import_torch() -> None:
    """Else each of them would take seconds longer."""
    code = """
import sys
from evaluator.cli import main
for command in ("--help", "tasks list", "submissions list", "submissions loaders", "submissions show statistics",
                "submissions new --help", "submissions new --name x --loader statistics"):
    sys.argv = ["beans", *command.split()]
    try:
        main()
    except SystemExit:
        pass
    assert "torch" not in sys.modules, command
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
