"""A submission file with a mistake is one sentence that names the mistake."""

from pathlib import Path

import pytest

from evaluator.submission import Submission
from tasks.errors import UserError

GOOD = '[submission]\nname = "x"\nloader = "statistics"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[submission\n", "not valid TOML"),
        ("[about]\n", "no table .submission"),
        ('[submission]\nloader = "statistics"\n', "name"),
        ('[submission]\nname = "a/b"\nloader = "statistics"\n', "name"),
        ('[submission]\nname = "x"\nloader = "keras"\n', "loader"),
        (GOOD + "[abuot]\n", "abuot"),
        (GOOD + '[about]\nfamily = "x"\n', "about.description"),
        (
            GOOD + '[about]\ndescription = "d"\nfamily = "f"\nauthors = "a"\nlicence = "l"\nlicense = "l"\n',
            "about.license: unknown",
        ),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=said) as caught:
        Submission.read(path)
    assert str(path) in str(caught.value)


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
