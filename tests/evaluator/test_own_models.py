"""A user's own model: it cannot end the program, its mistakes are named, and new weights never keep an old score."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import Run, write_submission

from evaluator.backbone import Loaded, ready
from evaluator.features.extraction import Extractor
from evaluator.guard.contained import contained
from evaluator.submission import Submission
from tasks.support.errors import UserError

CPU = torch.device("cpu")
MODEL = """
import os, sys
from pathlib import Path
import numpy as np
import torch
from evaluator.backbone import Layer

HERE = Path(__file__).parent
{top}

class Mine({base}):
    sample_rate, min_samples, layers = 16_000, 400, [Layer("a", 4)]
    {declared}

    def __init__(self):
        super().__init__()
        {init}

    def encode(self, waveforms, lengths):
        f = waveforms.unfold(1, 400, 400).std(-1)[..., None] * torch.arange(1.0, 5)
        n = lengths // 400
        {encode}
"""


def write(directory: Path, keys: str = "", **parts: str) -> Path:
    defaults = {"top": "", "base": "torch.nn.Module", "declared": "", "init": "pass", "encode": "return [f], n"}
    directory.mkdir(exist_ok=True)
    (directory / "mine.py").write_text(MODEL.format(**defaults | parts))
    return write_submission(directory / "own.toml", f'loader = "python"\ntarget = "mine:Mine"\n{keys}')


def load(file: Path) -> Loaded:
    model = ready(Submission.read(file).load())
    Extractor.of(model, CPU)
    return model


def identity(model: Loaded) -> str:
    return json.dumps([model.weights_sha256, model.options, model.versions], sort_keys=True)


@pytest.mark.parametrize("part", ["top", "init", "encode"])
@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("sys.exit(0)", "SystemExit 0"),
        ("quit()", "SystemExit"),
        ("os._exit(0)", "SystemExit 0"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise BaseException('stop')", "BaseException stop"),
    ],
)
def test_code_that_ends_the_program_is_an_error_and_no_silent_end(
    tmp_path: Path, part: str, code: str, said: str
) -> None:
    file = write(tmp_path, **{part: code})
    with pytest.raises(UserError, match=rf"ended the program with {said} \(.*mine.py, line \d+\)"):
        load(file)


def test_a_program_ended_at_import_is_exit_code_2(tmp_path: Path, statistics: Path) -> None:
    """In a process of its own: with os._exit, this one would be gone."""
    file = write(tmp_path / "own", top="os._exit(0)")
    command = [sys.executable, "-m", "evaluator", "check", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "ended the program" in done.stdout, done.stderr


def test_ctrl_c_is_no_error_of_the_model() -> None:
    usual = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), contained():
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is usual


def test_a_forked_process_of_the_model_may_end_itself(tmp_path: Path) -> None:
    """Libraries that start workers rely on it."""
    load(
        write(
            tmp_path, init="child = os.fork()\n        child or os._exit(7)\n        self.end = os.waitpid(child, 0)[1]"
        )
    )


@pytest.mark.parametrize(
    ("encode", "said"),
    [
        ("return [f], [int(x) for x in n]", "a builtins.int as its numbers of valid frames"),
        ("return [f], n.numpy()", "a numpy.ndarray as numbers of valid frames"),
        ("return [f], n.float()", "a float32 tensor as its numbers"),
        ("return [f], n > 0", "a bool tensor as its numbers"),
        ("return [f], n[:, None]", r"\(1, 1\) frame counts"),
        ("return [f], n + 1", "returned 20 frames but counts 21"),
        ("return [f], -n", "returned 20 frames but counts -20"),
        ("return [f.numpy()], n", "is a numpy.ndarray: return a torch tensor"),
        ("return [f.long()], n", "is a int64 tensor"),
        ("return [f + 1j], n", "is a complex64 tensor"),
        ("return [f.to('meta')], n", "on the device meta"),
        ("return [f.to_sparse()], n", "of layout sparse_coo"),
        ("return [None], n", r"is nothing \(None\)"),
        ("return {'a': f}, n", "a builtins.dict as outputs"),
        ("return (x for x in [f]), n", "a builtins.generator as outputs"),
        ("return f, n", "a float32 tensor as outputs"),
        ("return f", "a float32 tensor and not two values"),
        ("return None", r"nothing \(None\) and not two values"),
        ("return [f], n, n", "a tuple of 3 and not two values"),
    ],
)
def test_what_encode_returns_wrongly_is_one_sentence(tmp_path: Path, encode: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load(write(tmp_path, encode=encode))


def test_a_clip_with_fewer_than_no_frames_is_refused(tmp_path: Path) -> None:
    """The noise that finds the hops has another length, so only the count of this clip is wrong."""
    extractor = Extractor.of(ready(Submission.read(write(tmp_path, encode="return [f], n - 10")).load()), CPU)
    with pytest.raises(UserError, match="-8 as valid"):
        extractor_encode(extractor, 800)


def extractor_encode(extractor: Extractor, samples: int) -> None:
    from evaluator.checks.sounds import noise
    from evaluator.checks.subject import Subject

    Subject(extractor, short=True).alone(noise("a short clip", samples, 0))


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ("sample_rate = 0", "sample_rate is 0"),
        ("sample_rate = -1", "sample_rate is -1"),
        ("sample_rate = 16000.0", r"sample_rate is 16000.0 \(float\)"),
        ("sample_rate = '16000'", r"sample_rate is '16000' \(str\)"),
        ("sample_rate = np.int64(16000)", r"\(int64\)"),
        ("sample_rate = property(lambda self: 1 / 0)", "failed with ZeroDivisionError"),
        ("min_samples = 0", "min_samples is 0"),
        ("min_samples = None", "min_samples is None"),
        ("min_samples = 10**12", "min_samples is 1000000000000"),
        ("layers = []", "layers is"),
        ("layers = 4", "layers is 4"),
        ("layers = [('a', 4)]", r"layers\[0\] is \('a', 4\)"),
        ("layers = [Layer('a', 0)]", "width=0"),
        ("layers = [Layer('a', 4.0)]", "width=4.0"),
        (r"layers = [Layer('a\x1b[31m', 4)]", "printable"),
        (r"layers = [Layer('a\ud800', 4)]", "printable"),
        (r"layers = [Layer('a\nb', 4)]", "printable"),
        ("layers = [Layer('a' * 5000, 4)]", "printable"),
        (r"normalisation = 'a\x1b'", "normalisation is"),
        ("options = [1]", "options cannot be written as JSON"),
        ("options = {'w': np.ones(3)}", "options cannot be written as JSON"),
        ("options = property(lambda self: {})", "takes no attribute `options`"),
    ],
)
def test_what_a_record_cannot_hold_is_refused_before_anything_is_computed(
    tmp_path: Path, declared: str, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        load(write(tmp_path, declared=declared))


PLAIN = {"base": "object", "encode": "return [f * torch.from_numpy(self.w)], n"}
LOADING = {**PLAIN, "init": "self.w = np.load(HERE / 'w.npy')"}
UNNAMED = {
    "in __init__": LOADING,
    "in the module": {**PLAIN, "top": "W = np.load(HERE / 'w.npy')", "init": "self.w = W"},
    "mapped": {**PLAIN, "init": "self.w = np.array(np.memmap(HERE / 'w.npy', 'f4', 'r', 128, (4,)))"},
    "as bytes": {**PLAIN, "init": "self.w = np.frombuffer((HERE / 'w.npy').read_bytes()[128:], 'f4').copy()"},
    "in a module without parameters": {**LOADING, "base": "torch.nn.Module"},
    "in encode": {**PLAIN, "encode": "return [f * torch.from_numpy(np.load(HERE / 'w.npy'))], n"},
    "in encode, with parameters": {
        "init": "self.linear = torch.nn.Linear(4, 4)",
        "encode": "return [self.linear(f * torch.from_numpy(np.load(HERE / 'w.npy')))], n",
    },
}


def weights(directory: Path, seed: int) -> None:
    directory.mkdir(exist_ok=True)
    np.save(directory / "w.npy", np.random.default_rng(seed).standard_normal(4).astype(np.float32))


@pytest.mark.parametrize("case", UNNAMED)
def test_a_file_that_no_key_names_is_refused_because_its_change_would_keep_the_score(tmp_path: Path, case: str) -> None:
    weights(tmp_path, 0)
    with pytest.raises(UserError, match=r'opens .*w\.npy.*write files = \["w\.npy"\] in \[submission\]'):
        load(write(tmp_path, **UNNAMED[case]))


@pytest.mark.parametrize("case", UNNAMED)
@pytest.mark.parametrize("named", ['"w.npy"', '"."'])
def test_a_named_file_is_read_and_its_change_is_another_model(tmp_path: Path, case: str, named: str) -> None:
    weights(tmp_path, 0)
    file = write(tmp_path, f"files = [{named}]", **UNNAMED[case])
    before = identity(load(file))
    assert identity(load(file)) == before, "the same files are the same model"
    weights(tmp_path, 1)
    assert identity(load(file)) != before


def test_a_changed_weight_of_numpy_gives_another_score(beans: Run, tmp_path: Path, clips_task: Path) -> None:
    """This model kept the score of its weights after they were zeroed."""
    weights(tmp_path / "own", 0)
    file = write(tmp_path / "own", **LOADING)
    quick = ("--tasks", clips_task, "--trials", 2, "--seeds", 1, "--json")
    code, out, err = beans("submit", file, *quick)
    assert code == 2 and not out and 'write files = ["w.npy"]' in err
    write(tmp_path / "own", 'files = ["w.npy"]', **LOADING)
    assert json.loads(beans("submit", file, *quick)[1])["reused"] is False
    assert json.loads(beans("submit", file, *quick)[1])["reused"] is True
    weights(tmp_path / "own", 1)
    assert json.loads(beans("submit", file, *quick)[1])["reused"] is False


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ('files = ["v.npy"]', "v.npy does not exist"),
        ('files = "w.npy"', '"w.npy" is no list'),
        ("files = [1]", "1 is no text"),
        ('files = ["empty"]', "holds no file"),
    ],
)
def test_a_wrong_list_of_files_is_one_sentence(tmp_path: Path, keys: str, said: str) -> None:
    weights(tmp_path, 0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=said):
        load(write(tmp_path, keys, **LOADING))


def test_weights_of_a_module_need_no_name_and_those_outside_its_state_dict_count_too(tmp_path: Path) -> None:
    """An attribute that is no parameter and no buffer is in no state dict."""
    weights(tmp_path, 0)
    file = write(
        tmp_path,
        top="TABLE = {'w': np.load(HERE / 'w.npy')}",
        init="self.linear = torch.nn.Linear(4, 4); self.parts = [{'w': torch.from_numpy(np.load(HERE / 'w.npy'))}]",
        encode="return [self.linear(f * self.parts[0]['w'])], n",
    )
    before = identity(load(file))
    assert identity(load(file)) == before
    weights(tmp_path, 1)
    assert identity(load(file)) != before


@pytest.mark.parametrize("where", ["top", "encode"])
def test_a_changed_helper_module_is_another_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    name = f"own_helper_{where}"
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"{name}.py").write_text("GAIN = 1.0\n")
    code = {"top": f"from {name} import GAIN", "encode": f"import {name}; return [f * {name}.GAIN], n"}[where]
    file = write(tmp_path, **{where: code})
    before = identity(load(file))
    (tmp_path / f"{name}.py").write_text("GAIN = 2.0\n")
    assert identity(load(file)) != before
    monkeypatch.delitem(sys.modules, name)


def test_files_that_the_model_writes_itself_and_those_of_installed_packages_need_no_name(tmp_path: Path) -> None:
    load(
        write(
            tmp_path,
            base="object",
            top="import json, tempfile\nimport torchaudio.functional\nopen(np.__file__).read()",
            init="file = HERE / 'x.json'; file.write_text('[1]'); self.gain = json.loads(file.read_text())",
        )
    )


def test_random_weights_of_numpy_follow_the_seed(tmp_path: Path) -> None:
    file = write(tmp_path, **{**PLAIN, "init": "self.w = np.random.standard_normal(4).astype('f4')"})
    assert identity(load(file)) == identity(load(file)), "every run would be another model"


def test_what_a_model_prints_is_no_result(beans: Run, tmp_path: Path, clips_task: Path) -> None:
    file = write(tmp_path / "own", init="print('loading')", encode="print('encode'); return [f], n")
    code, out, err = beans("submit", file, "--tasks", clips_task, "--trials", 2, "--seeds", 1, "--json")
    assert code == 0 and json.loads(out)["submission"] == "own", (out, err)
    assert "loading" in err and "encode" in err
