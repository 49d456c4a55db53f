"""What the app says when its surroundings are wrong; the app itself runs, without a browser."""

from pathlib import Path

import pytest
from factory import make_record
from streamlit.testing.v1 import AppTest

from leaderboard.database.store import Store

APP = Path(__file__).parents[2] / "leaderboard" / "web" / "app.py"


def told() -> str:
    """The one error that is on the board's page."""
    page = AppTest.from_file(str(APP), default_timeout=30).run()
    assert not page.exception, "the reader sees a traceback"
    (error,) = page.error
    return str(error.value).replace("\\", "")


def test_broken_database_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader sees what to mend, not a traceback."""
    (tmp_path / "beans.db").write_text("no database" * 1000)
    monkeypatch.setenv("BEANS_DATABASE_URL", f"sqlite:///{tmp_path / 'beans.db'}")
    assert "file is not a database" in told()


def test_a_public_address_of_mlflow_that_is_none_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every link would lead nowhere; and what was written may hold a password."""
    url = f"sqlite:///{tmp_path / 'beans.db'}"
    Store(url).publish(make_record())
    monkeypatch.setenv("BEANS_DATABASE_URL", url)
    monkeypatch.setenv("BEANS_MLFLOW_URL", "user:secret@mlflow.example.org")
    said = told()
    assert "BEANS_MLFLOW_URL is not a web address" in said
    assert "secret" not in said
