"""A submission file with a mistake is one sentence that names the mistake."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel, ValidationError, create_model

from evaluator.backbone import ready
from evaluator.results.assemble import submission_info
from evaluator.submission import Submission, keys_of
from leaderboard.records.record import SubmissionInfo
from tasks.support.errors import UserError

ABOUT = '[about]\ndescription = "d"\nfamily = "f"\nauthors = "a"\nlicence = "l"\n'
GOOD = '[submission]\nname = "x"\nloader = "statistics"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[submission\n", "not valid TOML"),
        ("[about]\n", "no table .submission"),
        ('[submission]\nnmae = "x"\nloader = "statistics"\n', "no key name in .submission.; it has nmae, loader"),
        ('[submission]\nname = "x"\nlaoder = "statistics"\n', "no key loader in .submission.; it has name, laoder"),
        ('[submission]\nname = "a/b"\nloader = "statistics"\n', 'name: "a/b" is no name: write at most 80 letters'),
        ('[submission]\nname = 3\nloader = "statistics"\n', "name: 3 is no text: put it in quotes"),
        ('[submission]\nname = "x"\nloader = "keras"\n', "loader: \"keras\" is none of 'biomamba', .* or 'torchaudio'"),
        (GOOD + "[abuot]\n", "abuot"),
        (GOOD + '[about]\nfamily = "x"\n', "about.description: it is missing; about.authors"),
        ('about = "x"\n' + GOOD, 'about: "x" is no table'),
        (
            GOOD + '[about]\ndescription = "d"\nfamily = "f"\nauthors = "a"\nlicence = "l"\nlicense = "l"\n',
            r"about.license: unknown key \(did you mean licence\?\)",
        ),
        (GOOD + ABOUT.replace('"d"', '" "'), 'about.description: " " is empty: write a few words'),
        (GOOD + ABOUT + 'pretraining = ["LibriSpeech"]\n', r"about.pretraining.0"),
        (GOOD + ABOUT + 'pretraining = [{ data = "x" }]\n', r"about.pretraining.0.domain: it is missing"),
        (
            GOOD + ABOUT + 'pretraining = [{ data = "x", domain = "speech", hour = 1, zzz = 1 }]\n',
            r"0.hour: unknown key \(did you mean hours\?\); .*0.zzz: unknown key \(it has data, domain, hours, coll",
        ),
        (
            GOOD + ABOUT + 'pretraining = [{ data = "x", domain = "birds" }]\n',
            "domain: \"birds\" is none of 'speech', 'gen",
        ),
        (GOOD + ABOUT + 'pretraining = [{ data = "x", domain = "speech", hours = -1 }]\n', r"0.hours: -1 is below 0"),
        (
            GOOD + ABOUT + 'pretraining = [{ data = "x", domain = "speech", hours = inf }]\n',
            r"0.hours: Infinity is no finite number",
        ),
        (
            GOOD + ABOUT + 'pretraining = [{ data = "x", domain = "speech", collections = "y" }]\n',
            'tions: "y" is no list',
        ),
        (GOOD + ABOUT + "parameters = 12\n", "counts the parameters of statistics models itself"),
        (GOOD + ABOUT + "parameters = 0\n", "about.parameters: 0 is not above 0"),
        (GOOD + ABOUT + "parameters = true\n", "about.parameters: true is no whole number"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=said) as caught:
        Submission.read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ('loader = "huggingface"\nmodle = "x"', r"'huggingface': modle: unknown key \(did you mean model\?\)\.$"),
        ('loader = "huggingface"\ndo_normalise = true', r"do_normalise: unknown key \(did you mean do_normalize\?\)"),
        ('loader = "statistics"\nsede = 1', r"\(it has name, loader, sample_rate, bands, coefficients\)"),
        ('loader = "statistics"\nbands = "many"', 'bands: "many" is no whole number'),
        ('loader = "huggingface"\ndo_normalize = "yes"', 'do_normalize: "yes" is neither true nor false'),
        ('loader = "huggingface"\nmodel = 3', "model: 3 is no text: put it in quotes"),
        ('loader = "huggingface"\nmax_seconds = "1"', 'max_seconds: "1" is no number'),
        ('loader = "huggingface"\nconfig = 3', "config: 3 is no table"),
        ('loader = "huggingface"\nweights = "own"', "weights: \"own\" is none of 'pretrained' or 'random'"),
        ('loader = "torchaudio"\nconfig = 3', r"config: 3 is no text: put it in quotes; config: 3 is no table\.$"),
        ('loader = "features"\ndirectory = "x"', "sample_rate: it is missing"),
        ('loader = "features"\ndirectory = "x"\nsample_rate = 0', "sample_rate: 0 is below 1"),
        ('loader = "torchaudio"\nconfig = "x"\nsample_rate = -1', "sample_rate: -1 is below 1"),
        ('loader = "huggingface"\nmax_seconds = nan', "max_seconds: NaN is no finite number"),
        ('loader = "statistics"\nsample_rate = 0', "sample_rate: 0 is below 1000"),
        ('loader = "statistics"\ncoefficients = 0', "coefficients: 0 is below 1"),
        ('loader = "statistics"\nbands = 100000', "bands: 100000 is above 4096"),
        ('loader = "python"\ntarget = "x:y"\nseed = -1', "seed: -1 is below 0"),
        (f'loader = "huggingface"\nseed = {2**70}', "seed: 1180591620717411303424 is above 9223372036854775807"),
    ],
)
def test_a_mistake_in_the_loaders_keys_is_said_in_words_of_the_file(tmp_path: Path, keys: str, said: str) -> None:
    """Those of a library for checking types say neither what was written nor what was meant."""
    path = tmp_path / "s.toml"
    path.write_text(f'[submission]\nname = "x"\n{keys}\n')
    with pytest.raises(UserError, match=said):
        Submission.read(path).check_keys()


@pytest.mark.parametrize("loader", ["statistics", "features", "torchaudio", "huggingface"])
@pytest.mark.parametrize(
    "value", ["0", "-1", "1e9", "16000.5", '"16000"', "true", "[16000]", "nan", "2020-01-01", "10000001"]
)
def test_a_sample_rate_that_no_sound_has_is_refused(tmp_path: Path, loader: str, value: str) -> None:
    keys = {"features": 'directory = "x"\n', "torchaudio": 'config = "x"\n'}.get(loader, "")
    path = tmp_path / "s.toml"
    path.write_text(f'[submission]\nname = "x"\nloader = "{loader}"\n{keys}sample_rate = {value}\n')
    with pytest.raises(UserError, match=r"sample_rate: .* (is below|is above|is no whole number)"):
        Submission.read(path).check_keys()


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    """Windows' Notepad writes one."""
    (tmp_path / "s.toml").write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert Submission.read(tmp_path / "s.toml").name == "x"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + ABOUT.replace('"d"', r'"\u001b[31mred"'), r"about.description contains the character '\\x1b'"),
        (GOOD + ABOUT.replace('"a"', r'"\u202eevil"'), r"about.authors contains the character '\\u202e'"),
        (GOOD + ABOUT + r'pretraining = [{data = "\u0000", domain = "speech"}]', "about.pretraining.data contains"),
        (GOOD + ABOUT.replace('"d"', f'"{"d" * 20_001}"'), "about.description has 20001 characters"),
        (GOOD + r'model = "\u0007"', "submission.model contains"),
        (GOOD + r'"\u0007" = 1', "the key '.x07' in submission"),
        (GOOD + "config = {a = {b = inf}}", "submission.config.a.b is inf"),
        (GOOD + f"config = {{a = {10**30}}}", "submission.config.a is 1000000000000000000000000000000"),
        (GOOD + "config = " + "{a = " * 12 + "1" + "}" * 12, "nested too deeply"),
        (GOOD + "config = " + "[" * 5000, "not valid TOML"),
        (GOOD + "seed = " + "1" * 5000, "not valid TOML"),
    ],
)
def test_what_no_record_can_hold_is_refused_before_anything_is_computed(tmp_path: Path, text: str, said: str) -> None:
    """`beans records verify` would refuse the record after the whole training."""
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(UserError, match=said):
        Submission.read(tmp_path / "s.toml")


def test_a_submission_takes_the_rates_that_a_record_can_hold() -> None:
    """Otherwise a run of hours would end with a record that cannot be written."""
    for loader in ("torchaudio", "features"):
        key = keys_of(loader).model_fields["sample_rate"]
        model = create_model("key", sample_rate=(key.annotation, key))
        record = create_model("key", sample_rate=(int, SubmissionInfo.model_fields["sample_rate"]))
        for rate in (0, 1, 10**7, 10**7 + 1):
            assert _takes(model, rate) == _takes(record, rate), (loader, rate)


def _takes(model: type[BaseModel], rate: int) -> bool:
    try:
        model(sample_rate=rate)
    except ValidationError:
        return False
    return True


def test_files_under_submissions_need_the_readers_table(tmp_path: Path) -> None:
    directory = tmp_path / "submissions"
    directory.mkdir()
    (directory / "s.toml").write_text(GOOD)
    with pytest.raises(UserError, match="about"):
        Submission.read(directory / "s.toml")
    (tmp_path / "s.toml").write_text(GOOD)
    Submission.read(tmp_path / "s.toml")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.toml does not exist"):
        Submission.read(tmp_path / "nowhere.toml")


def info_of(path: Path) -> SubmissionInfo:
    """What the record says of a submission that is really loaded."""
    submission = Submission.read(path)
    return submission_info(submission, ready(submission.load()))


def test_embeddings_from_elsewhere_state_their_models_parameters(tmp_path: Path) -> None:
    """The board would call a model of a billion parameters one of none."""
    (tmp_path / "vectors").mkdir()
    np.savez(tmp_path / "vectors" / "tones.npz", ids=np.array(["a"]), last=np.zeros((1, 4), np.float32))
    keys = '[submission]\nname = "x"\nloader = "features"\ndirectory = "vectors"\nsample_rate = 16000\n'
    (tmp_path / "s.toml").write_text(keys + ABOUT + "parameters = 1_000_000_000\n")
    assert info_of(tmp_path / "s.toml").parameters == 10**9
    (tmp_path / "s.toml").write_text(keys + ABOUT)
    assert info_of(tmp_path / "s.toml").parameters == 0


def test_parameters_that_can_be_counted_are_counted_whatever_the_file_says(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom evaluator.backbone import Layer\n\n\nclass Mine(torch.nn.Linear):\n"
        "    sample_rate, layers = 16000, [Layer('one', 2)]\n"
        "    def __init__(self):\n        super().__init__(3, 2)\n"
        "    def encode(self, waveforms, lengths):\n        raise NotImplementedError\n"
    )
    keys = '[submission]\nname = "x"\nloader = "python"\ntarget = "mine:Mine"\n'
    (tmp_path / "s.toml").write_text(keys + ABOUT + "parameters = 5\n")
    assert info_of(tmp_path / "s.toml").parameters == 3 * 2 + 2


def test_unsaid_and_none_are_different_things_to_have_heard(tmp_path: Path) -> None:
    """A control has heard nothing; of a model whose file says nothing, nothing is known."""
    for text, expected in [("", None), ("pretraining = []\n", [])]:
        (tmp_path / "s.toml").write_text(GOOD + ABOUT + text)
        assert info_of(tmp_path / "s.toml").about.get("pretraining") == expected
