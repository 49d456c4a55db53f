"""A loader is one module: what it declares is all that the suite knows of it, also where another package adds it."""

import hashlib
import json
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest
from builders import Run, write_submission

from evaluator import backbones
from evaluator.backbone import ready
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


def load(*, width: int, kind: Literal["plain", "rectified"] = "plain", base: Path = Path()) -> object:
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


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a package that adds the loader ``name`` from a module of the given source."""
    site = tmp_path / "site-packages"
    site.mkdir()
    (site / "chirp_model.py").write_text(MODEL)
    monkeypatch.syspath_prepend(site)
    known = set(sys.modules)

    def do(source: str = DECLARATION, name: str = "chirp", package: str = "chirp-encoders") -> None:
        module = package.replace("-", "_")
        (site / f"{module}.py").write_text(source)
        about = site / f"{module}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[beans.loaders]\n{name} = {module}\n")

    yield do
    for name in {one for one in sys.modules if "chirp" in one} - known:
        del sys.modules[name]


def test_a_loader_of_another_package_is_used_like_one_of_the_suite(
    install: Install, beans: Run, tmp_path: Path, clips_task: Path, own_home: Path
) -> None:
    install()
    file = tmp_path / "mine.toml"
    code, out, err = beans("submissions", "new", "--help")
    assert code == 0 and re.search(r"\bchirp,", out), err
    code, out, err = beans("submissions", "loaders", "--json")
    assert {"name": "chirp", "for": "encoders of chirps", "package": "chirp-encoders==1.0", "error": ""} in json.loads(
        out
    )
    _, out, _ = beans("doctor", "--json")
    found = {check["check"]: check["found"] for check in json.loads(out)}
    assert found["loader chirp"] == "chirp-encoders==1.0"
    assert found["no-such-package"] == "not installed; needed for the loader chirp: `pip install it`"

    code, _, err = beans("submissions", "new", file, "--loader", "chirp", *ABOUT)
    assert code == 2 and "--set width=… is missing (width (channels per layer))" in err
    code, _, err = beans("submissions", "new", file, "--loader", "chirp", "--set", "width=16", *ABOUT)
    assert code == 0, err
    assert 'loader = "chirp"\nwidth = 16\n# kind = "plain"  # or "rectified"\n' in file.read_text()

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
    assert "chirp-encoders==1.0" in requirements.read_text().split()


def test_a_key_of_another_packages_loader_is_checked_by_its_signature(install: Install, tmp_path: Path) -> None:
    install()
    file = write_submission(tmp_path / "mine.toml", 'loader = "chirp"\nwidth = 4\nkind = "rounded"')
    with pytest.raises(UserError, match="kind: \"rounded\" is none of 'plain' or 'rectified'"):
        Submission.read(file).check_keys()


BROKEN = {
    "does not import": ("import no_such_module\n", "fails with ModuleNotFoundError: No module named 'no_such_module'"),
    "crashes": ("raise RuntimeError('no\\nlicence')\n", "fails with RuntimeError: no licence"),
    "no VERSION": (DECLARATION.replace("    version=VERSION,\n", ""), "LOADER needs a version: write version=VERSION"),
    "VERSION is text": (DECLARATION.replace("VERSION = 1", "VERSION = '1'"), "LOADER needs a version"),
    "no LOADER": ("def load():\n    return None\n", "is no module with a Loader called LOADER"),
    "another name": (DECLARATION.replace('name="chirp"', 'name="chirps"'), "calls it 'chirps'"),
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
        f"Loader 'chirp' of the package chirp-encoders==1.0 cannot be used: .*{sentence}",
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
        "Loader 'espnet' is declared twice, by this suite and by the package chirp-en",
    )
    code, out, err = beans("check", statistics)
    assert code == 0, out + err


def test_a_name_of_two_other_packages_is_used_by_neither(
    install: Install, beans: Run, tmp_path: Path, clips_task: Path
) -> None:
    install()
    install(package="other-chirps")
    places = "the package chirp-encoders==1.0 and by the package other-chirps==1.0|the package other-chirps==1.0 and by"
    expect_broken(beans, clips_task, tmp_path, "chirp", f"Loader 'chirp' is declared twice, by ({places})")


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
    module = tmp_path / "site-packages/chirp_encoders.py"
    for old, new, version in (
        ("VERSION = 1", "VERSION = 1  # of the first release", 1),
        ("VERSION = 1 ", "VERSION = 2 ", 2),
    ):
        module.write_text(module.read_text().replace(old, new))
        del sys.modules["chirp_encoders"]
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


def test_every_module_of_the_room_is_a_loader_with_a_name_of_its_own() -> None:
    """Else a loader that forgets its declaration, or copies another's, would silently be missing."""
    modules = [found.name for found in pkgutil.iter_modules(backbones.__path__) if found.name != "support"]
    names = [import_module(f"evaluator.backbones.{name}").LOADER.name for name in modules]
    assert sorted(names) == sorted(set(names)) and set(names) <= set(backbones.names())


@pytest.mark.parametrize("name", sorted(backbones._own()))
def test_a_template_has_every_key_of_its_loader_with_an_example_that_the_loader_takes(name: str) -> None:
    loader, model = backbones.loader(name), keys_of(name)
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
