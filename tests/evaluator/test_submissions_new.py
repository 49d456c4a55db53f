"""`beans submissions new` on a real terminal and in a script: it writes what can be submitted, or nothing."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from builders import Run, save_checkpoint

from evaluator.submission import About, Submission, keys_of

ABOUT = ("--family", "F", "--description", "D", "--authors", "A", "--licence", "MIT")
NEW = ("submissions", "new")
# Ctrl-C reaches only the process that the terminal belongs to: the first of its session to open it.
_MAIN = "import os; os.open(os.ttyname(0), os.O_RDWR); from evaluator.cli import main; main()"


class Terminal:
    """The command on a terminal of its own: everything it shows, and what a person types."""

    def __init__(self, directory: Path, arguments: tuple[str, ...]) -> None:
        self.master, slave = pty.openpty()
        self.child = subprocess.Popen(
            [sys.executable, "-c", _MAIN, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=directory,
            env={**os.environ, "TERM": "dumb", "COLUMNS": "200", "PYTHONPATH": str(Path(__file__).parents[2])},
            start_new_session=True,
        )
        os.close(slave)
        self.shown = ""
        self.read = 0

    def expect(self, text: str) -> None:
        """Wait until ``text`` appears after what was waited for before."""
        deadline = time.monotonic() + 120
        while text not in self.shown[self.read :]:
            assert time.monotonic() < deadline, f"{text!r} did not appear in:\n{self.shown}"
            if not self._more(deadline):
                raise AssertionError(f"ended before {text!r}:\n{self.shown}")
        self.read = self.shown.index(text, self.read) + len(text)

    def answer(self, question: str, text: str) -> None:
        self.expect(question)
        os.write(self.master, f"{text}\n".encode())

    def leave(self, question: str, key: bytes) -> int:
        """Press a key until it ends, as a person would: Python misses an interrupt just before it waits for input."""
        self.expect(question)
        for _ in range(10):
            os.write(self.master, key)
            deadline = time.monotonic() + 5
            while self._more(deadline):
                pass
            with suppress(subprocess.TimeoutExpired):
                return self.child.wait(1)
        raise AssertionError(f"did not end:\n{self.shown}")

    def end(self) -> int:
        while self._more(time.monotonic() + 120):
            pass
        return self.child.wait(60)

    def _more(self, deadline: float) -> bool:
        if not select.select([self.master], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:
            return False
        self.shown += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(*arguments: str) -> Terminal:
        opened.append(Terminal(tmp_path, (*NEW, *arguments)))
        return opened[-1]

    yield start
    for one in opened:
        if one.child.poll() is None:
            one.child.send_signal(signal.SIGKILL)
            one.child.wait(20)
        os.close(one.master)


def test_a_person_is_asked_again_until_each_answer_is_right(
    terminal: Callable[..., Terminal], tmp_path: Path, beans: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights").mkdir()
    one = terminal()
    one.answer("Name on the board", "my model")
    one.expect('"my model" is no name: write at most 80 letters, digits')
    one.answer("Name on the board", "mine")
    one.answer("Loader", "keras")
    one.expect("There is no loader 'keras'")
    one.answer("Loader", "features")
    one.answer("directory (directory of the embeddings", "weights")
    one.answer("sample_rate (Hz", "many")
    one.expect('"many" is no whole number')
    one.answer("sample_rate (Hz", "16000")
    one.expect("Written as ../weights")
    one.answer("Description", "")
    one.expect("this needs an answer")
    one.answer("Description", 'A "quoted" one, with \\ and é')
    one.answer("Family", "Mine")
    one.answer("Authors", "Me 2026")
    one.answer("Licence", "MIT")
    one.answer("Data set of the pretraining, DATA; DOMAIN; HOURS", "FSD50K; noise")
    one.expect("domain: \"noise\" is none of 'speech', 'general audio'")
    one.answer("Data set", "FSD50K")
    one.expect("write 'DATA; DOMAIN; HOURS")
    one.answer("Data set", "FSD50K; general audio; -1")
    one.expect('hours: "-1" is below 0')
    one.answer("Data set", "FSD50K; general audio; 108.3")
    one.answer("Data set", "Our crawl; animals; ; Xeno-canto, our garden")
    one.answer("Data set", "")
    assert one.end() == 0, one.shown
    assert "pretrained on FSD50K, which like esc50 is drawn from Freesound" in one.shown
    assert "Wrote submissions/mine.toml.\nNext: beans check submissions/mine.toml" in one.shown
    read = tomllib.loads((tmp_path / "submissions/mine.toml").read_text())
    assert read == {
        "submission": {"name": "mine", "loader": "features", "directory": "../weights", "sample_rate": 16000},
        "about": {
            "description": 'A "quoted" one, with \\ and é',
            "family": "Mine",
            "authors": "Me 2026",
            "licence": "MIT",
            "pretraining": [
                {"data": "FSD50K", "domain": "general audio", "hours": 108.3},
                {"data": "Our crawl", "domain": "animals", "collections": ["Xeno-canto", "our garden"]},
            ],
        },
    }
    # What was not asked is there as a comment, ready to be used.
    for line in ("# paper = ", "# code = ", "# parameters = "):
        assert line in (tmp_path / "submissions/mine.toml").read_text()
    assert Submission.read(tmp_path / "submissions/mine.toml").name == "mine"
    monkeypatch.chdir(tmp_path)
    code, out, err = beans("submissions", "show", "mine", "--json")
    assert code == 0, err
    assert "cbi" in out and "esc50" in out


@pytest.mark.parametrize(("key", "name"), [(b"\x03", "Ctrl-C"), (b"\x04", "end of input")])
def test_leaving_early_writes_nothing_and_says_so(
    terminal: Callable[..., Terminal], tmp_path: Path, key: bytes, name: str
) -> None:
    one = terminal("--name", "mine", "--loader", "statistics")
    one.answer("Description", "half of it")
    assert one.leave("Family", key) == 2, f"{name}: {one.shown}"
    assert "Error: Stopped before the last answer: nothing was written." in one.shown
    assert "Traceback" not in one.shown and "Interrupted" not in one.shown
    assert not (tmp_path / "submissions").exists()


@pytest.mark.parametrize(("reply", "replaced"), [("", False), ("y", True)])
def test_an_existing_file_is_replaced_only_when_the_person_says_so(
    terminal: Callable[..., Terminal], tmp_path: Path, reply: str, replaced: bool
) -> None:
    file = tmp_path / "old.toml"
    file.write_text("precious\n")
    one = terminal("old.toml", "--name", "new", "--loader", "statistics", *ABOUT, "--paper", "", "--code", "")
    one.answer("old.toml exists. Replace it?", reply)
    code = one.end()
    if replaced:
        assert code == 0 and "Replaced old.toml." in one.shown
        assert Submission.read(file).name == "new"
    else:
        assert code == 2 and "was not changed" in one.shown
        assert file.read_text() == "precious\n"


SCRIPTS = {
    "huggingface": (["model=facebook/hubert-base-ls960", "revision=1234567"], {"revision": "1234567"}),
    "huggingface, own code": (["model=me/mine", "trust_remote_code=true"], {"trust_remote_code": True}),
    "huggingface, random": (
        ["weights=random", "architecture=hubert", "config={hidden_size = 128}"],
        {"config": {"hidden_size": 128}},
    ),
    "torchaudio": (
        ["config=https://example.org/c.json", "checkpoint=https://example.org/w.pt"],
        {"checkpoint": "https://example.org/w.pt"},
    ),
    "espnet": (["config=https://example.org/c.yaml", "checkpoint=https://example.org/w.pth"], {}),
    "biomamba": (["model=me/biomamba", 'kernels="transformers"'], {"kernels": "transformers"}),
    "python": (["target=mine:Mine", "seed=3"], {"target": "mine:Mine", "seed": 3}),
    "features": (["directory=vectors", "sample_rate=16000"], {"sample_rate": 16000}),
    "statistics": (["bands=80"], {"bands": 80}),
}


@pytest.mark.parametrize("case", SCRIPTS)
def test_a_script_gives_every_answer(beans: Run, tmp_path: Path, case: str) -> None:
    settings, keys = SCRIPTS[case]
    sets = [part for setting in settings for part in ("--set", setting)]
    loader = case.partition(",")[0]
    heard = () if loader == "statistics" or "random" in case else ("--pretraining", "none")
    file = tmp_path / "mine.toml"
    code, out, err = beans(*NEW, file, "--loader", loader, *sets, *ABOUT, *heard)
    assert code == 0, err
    assert out == f"Wrote {file}.\nNext: beans check {file}\n"
    entry = Submission.read(file)
    assert (entry.name, entry.loader) == ("mine", loader)
    assert keys.items() <= entry.arguments.items()
    assert set(entry.arguments) == {setting.partition("=")[0] for setting in settings}
    assert entry.about is not None and entry.about.pretraining == ()
    entry.check_keys()


def test_a_comment_becomes_a_key_of_its_own_table_without_its_mark(beans: Run, tmp_path: Path) -> None:
    """Also where an answer is a table, which TOML writes below the other keys."""
    file = tmp_path / "mine.toml"
    sets = ("--set", "weights=random", "--set", "architecture=hubert", "--set", "config={hidden_size = 128}")
    heard = [f"{name * 40}; speech" for name in "ab"]
    code, _, err = beans(
        *NEW, file, "--loader", "huggingface", *sets, *ABOUT, "--pretraining", heard[0], "--pretraining", heard[1]
    )
    assert code == 0, err
    keys, about = tomllib.loads(re.sub(r"(?m)^# ", "", file.read_text())).values()
    assert keys.keys() == {"name", "loader", *keys_of("huggingface").model_fields}
    assert keys["config"] == {"hidden_size": 128}
    assert about.keys() == About.model_fields.keys() - {"parameters"}
    assert [entry["data"] for entry in about["pretraining"]] == ["a" * 40, "b" * 40]


def test_what_is_written_passes_the_command_that_comes_next(
    beans: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the directory says nothing of its waveforms, which save_pretrained alone does not."""
    monkeypatch.chdir(tmp_path)
    save_checkpoint(tmp_path / "hubert", "group")
    bare = save_checkpoint(tmp_path / "bare", "group")
    (bare / "preprocessor_config.json").unlink()
    answers = (*ABOUT, "--pretraining", "LibriSpeech; speech; 960", "--loader", "huggingface", "--set")
    waveforms = ("--set", "do_normalize=true", "--set", "sample_rate=16000")
    code, _, err = beans(*NEW, "--name", "bare", *answers, "model=bare", *waveforms[:2])
    assert code == 2 and "--set sample_rate=… is missing" in err and f"{bare} has no preprocessor_config.json" in err
    code, _, err = beans(*NEW, "--name", "hubert", *answers, "model=hubert", "--set", "revision=1234567")
    assert code == 2 and f"revision names a commit of the hub, but {tmp_path}/hubert is a directory" in err
    assert not (tmp_path / "submissions").exists()
    for name, more in (("hubert", ()), ("bare", waveforms)):
        code, _, err = beans(*NEW, "--name", name, *answers, f"model={name}", *more)
        assert code == 0, err
        assert Submission.read(Path(f"submissions/{name}.toml")).arguments["model"] == f"../{name}"
        code, out, err = beans("check", f"submissions/{name}.toml")
        assert code == 0, out + err


def test_a_person_is_asked_what_a_directory_does_not_say_and_no_silence_becomes_a_claim(
    terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    """An Enter is no statement that the weights have heard nothing, which the board would then show."""
    (save_checkpoint(tmp_path / "bare", "group") / "preprocessor_config.json").unlink()
    for name, heard in (("silent", ""), ("untaught", "None")):
        one = terminal("--name", name, "--loader", "huggingface", *ABOUT, "--paper", "", "--code", "")
        one.answer("model (hub id of the model, or a directory", "")
        one.expect("this needs an answer")
        one.answer("model (hub id of the model, or a directory", "bare")
        one.expect(f"{tmp_path}/bare has no preprocessor_config.json")
        one.answer("zero mean and unit variance?", "yes")
        one.expect('"yes" is neither true nor false')
        one.answer("zero mean and unit variance?", "true")
        one.answer("sample_rate (Hz", "16000")
        one.answer("Data set of the pretraining", heard)
        assert one.end() == 0, one.shown
        read = tomllib.loads((tmp_path / f"submissions/{name}.toml").read_text())
        expected = {"name": name, "model": "../bare", "do_normalize": True, "sample_rate": 16000}
        assert read["submission"] == {"loader": "huggingface", **expected}
        assert read["about"].get("pretraining") == (None if name == "silent" else [])


def test_a_script_may_say_that_it_does_not_know_what_the_weights_have_seen(beans: Run, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    answers = ("--loader", "python", "--set", "target=mine:Mine", *ABOUT, "--pretraining", "unknown")
    code, _, err = beans(*NEW, file, *answers)
    assert code == 0, err
    assert "pretraining" not in tomllib.loads(file.read_text())["about"]


WRONG = {
    "no name": ((), "--name is missing"),
    "bad name": (("--name", "a/b"), '--name: "a/b" is no name: write at most 80 letters'),
    "no loader": (("--name", "x"), "--loader is missing"),
    "unknown loader": (("--name", "x", "--loader", "keras"), "--loader: There is no loader 'keras'"),
    "no model": (("--name", "x", "--loader", "huggingface"), "--set model=… is missing"),
    "unknown key": (
        ("--name", "x", "--loader", "statistics", "--set", "band=3"),
        "has no key 'band' (did you mean bands?)",
    ),
    "no value": (("--name", "x", "--loader", "statistics", "--set", "bands"), "write KEY=VALUE"),
    "wrong type": (
        ("--name", "x", "--loader", "statistics", "--set", "bands=x"),
        '--set bands: "x" is no whole number',
    ),
    "out of bounds": (
        ("--name", "x", "--loader", "statistics", "--set", "bands=0"),
        "--set bands: 0 is below 1",
    ),
    "empty model": (("--name", "x", "--loader", "huggingface", "--set", "model="), "--set model: this needs an answer"),
    "no about": (("--name", "x", "--loader", "statistics"), "--description is missing"),
    "target": (("--name", "x", "--loader", "python", "--set", "target=mine"), "write module:function"),
    "nothing on pretraining": (
        ("--name", "x", "--loader", "python", "--set", "target=a:b", *ABOUT),
        "--pretraining is missing",
    ),
    "half a data set": (
        ("--name", "x", "--loader", "python", "--set", "target=a:b", *ABOUT, "--pretraining", "FSD50K"),
        "--pretraining FSD50K: write 'DATA; DOMAIN; HOURS",
    ),
    "wrong domain": (
        ("--name", "x", "--loader", "python", "--set", "target=a:b", *ABOUT, "--pretraining", "FSD50K; noise"),
        "--pretraining FSD50K; noise: domain: \"noise\" is none of 'speech', 'general audio'",
    ),
    "counted parameters": (
        ("--name", "x", "--loader", "statistics", *ABOUT, "--parameters", "3"),
        "the suite counts the parameters of statistics models itself",
    ),
    "no TOML file": (("x.txt", "--name", "x"), "x.txt is not the name of a submission file"),
    "text that is none": (("--name", "x", "--loader", "statistics", "--description", "\udcff"), "not valid text"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_or_missing_answer_of_a_script_is_one_sentence(
    beans: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, said = WRONG[case]
    code, out, err = beans(*NEW, *arguments)
    assert code == 2 and not out
    assert said in err and len(re.findall("^Error:", err, re.MULTILINE)) == 1, err
    assert not (tmp_path / "submissions").exists(), "something was written"


def test_a_script_replaces_a_file_only_with_force(beans: Run, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("precious\n")
    answers = (*NEW, file, "--loader", "statistics", *ABOUT)
    code, _, err = beans(*answers)
    assert code == 2 and "exists and was not changed" in err and file.read_text() == "precious\n"
    code, out, _ = beans(*answers, "--force")
    assert code == 0 and out.startswith(f"Replaced {file}.")
    assert Submission.read(file).loader == "statistics"


def test_a_path_is_written_as_the_submission_file_has_to_call_it(
    beans: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths start at the submission file's directory, which is easily forgotten."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vectors").mkdir()
    answers = ("--name", "x", "--loader", "features", "--set", "sample_rate=16000", *ABOUT, "--pretraining", "none")
    code, _, err = beans(*NEW, *answers, "--set", "directory=vectors")
    assert code == 0 and "Written as ../vectors" in err
    assert Submission.read(Path("submissions/x.toml")).arguments["directory"] == "../vectors"
