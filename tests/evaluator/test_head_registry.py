"""A head is found where it is declared, in this suite or in an installed package, and nothing else needs to know it."""

import json
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import Run
from test_docs import blocks

import evaluator.probes.heads
import evaluator.results.identity
from evaluator.probes import head as head_module
from evaluator.probes.automatic import stack_of
from evaluator.probes.head import Head
from evaluator.probes.heads import HEADS
from leaderboard.records import plausibility
from leaderboard.records.record import HeadInfo
from leaderboard.records.stored import StoredRecord
from tasks.support.errors import UserError

ROOT = Path(__file__).parents[2]
Install = Callable[..., Path]
QUICK = ("--lr", "1e-2", "--seeds", "2", "--json")


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a package of one module into a directory of its own, for this test."""
    before = set(sys.modules)
    directory = tmp_path / "site-packages"

    def install(name: str, module: str, points: dict[str, str], requires: str = "") -> Path:
        info = directory / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        needs = f"Requires-Dist: {requires}\n" if requires else ""
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needs}")
        lines = [f"{point} = {value}" for point, value in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[beans.heads]", *lines]) + "\n")
        file = directory / f"{next(iter(points.values())).partition(':')[0]}.py"
        file.write_text(module)
        monkeypatch.syspath_prepend(directory)
        HEADS.refresh()
        return file

    yield install
    HEADS.refresh()
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(directory)):
            del sys.modules[name]


@pytest.fixture
def documented(install: Install) -> Path:
    """The head of docs/extending.md, installed as the page says."""
    shown = blocks(ROOT / "docs/extending.md")
    (module,) = (block for block in shown if "HEAD = Head(" in block)
    (project,) = (block for block in shown if block.startswith('[project.entry-points."beans.heads"]'))
    assert len([line for line in module.splitlines() if line.strip()]) <= 12, "the page says that it is short"
    points = tomllib.loads(project)["project"]["entry-points"]["beans.heads"]
    return install("my-heads", module, points, requires="einops>=0.1")


def listed(text: str) -> list[tuple[str, str]]:
    """Tracks and their lines in a help, which wraps them."""
    column = re.search(r"--track\s+<str>\s+", text)
    assert column is not None
    lines = [line[1:-1][column.end() - column.start() :].strip() for line in text[column.start() - 2 :].splitlines()]
    words = " ".join(lines).partition("Tracks, separated by commas. ")[2].partition("[default")[0]
    found = re.split(r"\s*\b([a-z0-9-]+): ", words)[1:]
    return list(zip(found[::2], (text.strip() for text in found[1::2]), strict=True))


def test_a_module_in_the_folder_is_a_head(tmp_path: Path) -> None:
    """A second list would have to be known, and would be forgotten."""
    (tmp_path / "brand_new.py").write_text(
        textwrap.dedent("""
        from torch.nn import Module
        from evaluator.probes.head import Head

        HEAD = Head("brand-new", "nothing yet", "vectors", version=3, make=Module)
        """)
    )
    evaluator.probes.heads.__path__.append(str(tmp_path))
    HEADS.refresh()
    try:
        assert HEADS.names() == ["brand-new", "ta", "twa"] and HEADS.get("brand-new").version == 3
    finally:
        evaluator.probes.heads.__path__.remove(str(tmp_path))
        HEADS.refresh()
        sys.modules.pop("evaluator.probes.heads.brand_new", None)


def test_the_guides_head_is_installed_listed_used_recorded_and_exported(
    documented: Path, beans: Run, own_home: Path, clips_task: Path, statistics: Path, tmp_path: Path
) -> None:
    code, out, err = beans("submit", "--help")
    assert code == 0, err
    expected = {
        name: one.help + (" (reads frames)" if one.reads_frames else "")
        for name, one in ((name, HEADS.get(name)) for name in HEADS.names())
    }
    assert list(expected) == ["max", "ta", "twa"] and dict(listed(out)) == expected
    code, _, err = beans("submit", statistics, "--tasks", clips_task, "--track", "min")
    assert code == 2 and "choose from max, ta, twa" in err

    code, out, err = beans("submit", statistics, "--tasks", clips_task, "--track", "max", *QUICK)
    assert code == 0, err
    row = json.loads(out.splitlines()[-1])
    # Chance is 0.25, and the tones of the task differ in their spectrum.
    assert row["track"] == "max" and row["test"] > 0.5
    stored = StoredRecord.read(Path(row["record"]))
    assert stored.record.head == HeadInfo(help="maximum over frames, then a linear layer", version=1)
    code, out, err = beans("submit", statistics, "--tasks", clips_task, "--track", "max", *QUICK)
    assert json.loads(out.splitlines()[-1])["reused"] is True

    output = tmp_path / "exported"
    options = ("--submission", statistics, "--task", clips_task, "--output", output, "--json")
    code, out, err = beans("records", "export-probe", stored.record.id, *options)
    assert code == 0, err
    assert "einops>=0.1" in (output / "requirements.txt").read_text().split(), "the head's package needs it"

    documented.parent.rename(tmp_path / "uninstalled")
    files = [str(clips_task.parent / one) for one in stored.predictions.ids]
    lines = f"""
    import json, mlflow
    model = mlflow.pyfunc.load_model({str(output)!r})
    print(json.dumps(model.predict([{{"path": file}} for file in {files!r}])["scores"].tolist()))
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(lines)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout.splitlines()[-1]), stored.predictions.scores[0], atol=1e-4)

    HEADS.refresh()
    code, _, err = beans("records", "export-probe", stored.record.id, *options)
    assert code == 2 and "is of track 'max', which is not installed here: install the package" in err


def test_a_new_version_of_a_head_is_another_result(
    documented: Path, beans: Run, clips_task: Path, statistics: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else results of the old head would be shown as those of the new one."""
    command = ("submit", statistics, "--tasks", clips_task, "--track", "max", *QUICK)
    names = []
    for version, automatic in ((1, 1), (2, 1), (2, 2)):
        documented.write_text(documented.read_text().replace("version=1", f"version={version}"))
        # What differentiates the head has a version too.
        monkeypatch.setattr(evaluator.results.identity, "AUTOMATIC", automatic)
        sys.modules.pop("my_heads", None)
        HEADS.refresh()
        code, out, err = beans(*command)
        assert code == 0, err
        row = json.loads(out.splitlines()[-1])
        assert row["reused"] is False
        names.append(row["record"])
    assert len(set(names)) == 3


DECLARED = """
from torch.nn import Module
from evaluator.probes.head import Head
HEAD = Head(**{arguments!r}, make=Module)
"""
FINE: dict[str, Any] = {"name": "bad", "help": "another head", "needs": "vectors", "version": 1}


@pytest.mark.parametrize(
    ("module", "says"),
    [
        ("import no_such_package", "cannot be imported (ModuleNotFoundError: No module named 'no_such_package'"),
        ("HEAD = 3", "must name a evaluator.probes.head.Head and not a int"),
        ("", "has no attribute 'HEAD'"),
        (DECLARED.format(arguments={**FINE, "name": "My Head"}), "the name 'My Head' is not 1 to 20 lower-case"),
        (DECLARED.format(arguments={**FINE, "needs": "layers"}), "needs is 'layers', which is neither"),
        (DECLARED.format(arguments={**FINE, "help": "two\nlines"}), "help is not one line"),
        (DECLARED.format(arguments={**FINE, "version": 0}), "version is 0, which is not 1, 2"),
        (DECLARED.format(arguments={**FINE, "name": "other"}), "declares the other name 'other'"),
    ],
)
def test_a_package_whose_head_cannot_be_used_is_named_and_spoils_no_other(
    install: Install, beans: Run, statistics: Path, clips_task: Path, module: str, says: str
) -> None:
    install("bad-heads", module, {"bad": "bad_heads:HEAD"})
    with pytest.raises(UserError, match=r"^The track 'bad' of the package bad-heads cannot be") as raised:
        HEADS.get("bad")
    assert says in str(raised.value)
    code, out, err = beans("submit", "--help")
    assert code == 0 and "bad-heads" in dict(listed(out))["bad"], err
    code, _, err = beans("submit", statistics, "--tasks", clips_task, "--track", "bad", "--dry-run")
    assert code == 2 and "bad-heads" in err
    code, _, err = beans("submit", statistics, "--tasks", clips_task, "--track", "ta", "--dry-run")
    assert code == 0, err


def test_two_heads_of_one_name_are_refused(install: Install) -> None:
    """Else it would depend on the order of packages which one made a result."""
    install("their-heads", DECLARED.format(arguments={**FINE, "name": "ta"}), {"ta": "their_heads:HEAD"})
    with pytest.raises(UserError, match=r"The track 'ta' is registered by this suite and by the package their-heads"):
        HEADS.get("ta")
    assert HEADS.get("twa").name == "twa"


def test_names_and_lines_of_heads_fit_into_records() -> None:
    """Else a search would run for hours, and its record could not be written or imported."""
    assert head_module._NAME.pattern == plausibility._TRACK.pattern
    longest = "x" * 200
    one = Head("x" * 20, longest, "vectors", 1, torch.nn.Linear)
    assert HeadInfo(help=one.help, version=one.version).help == longest
    with pytest.raises(ValueError, match="help"):
        Head("x", longest + "x", "vectors", 1, torch.nn.Linear)


def test_a_share_of_nothing_or_of_an_unknown_parameter_is_refused() -> None:
    """A misspelt name would leave the parameter at the full rate, without a word."""
    with pytest.raises(ValueError, match="share of weight is 0"):
        Head("x", "linear", "vectors", 1, torch.nn.Linear, shares={"weight": 0.0})
    ta = replace(HEADS.get("ta"), shares={"wieght": 0.5})
    with pytest.raises(UserError, match="declares a share for wieght, which it does not train"):
        stack_of(ta, 4, 2, torch.device("cpu"))


def test_the_table_of_tracks_has_every_head_of_the_suite() -> None:
    text = (ROOT / "docs/submitting.md").read_text()
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (.+) \| (vectors|frames) \|$", text, flags=re.MULTILINE)
    own = [HEADS.get(name) for name in HEADS.names() if HEADS.distribution(name) is None]
    assert rows == [(one.name, one.help, one.needs) for one in own]
