"""Downloads the files of a Kaggle competition with the user's Kaggle client and account."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tasks.support.errors import UserError
from tasks.support.progress import Report

_POLL_SECONDS = 0.5


def fetch_competition(competition: str, directory: Path, report: Report) -> Path:
    """Download all files of a competition as one archive, ``directory/COMPETITION.zip``, and return its path.

    An existing archive is complete and is not changed. The client continues an interrupted download.

    Args:
        competition: its name in Kaggle's addresses.
        directory: created if it does not exist.
        report: receives the number of downloaded bytes and of all bytes; 0 if the client does not state it.

    Raises:
        UserError: no client, no valid account, rules not accepted, no connection, or a full disk.
    """
    archive = directory / f"{competition}.zip"
    if archive.is_file():
        return archive
    # The client writes an unfinished file under its final name, so it gets a separate directory.
    partial = directory / f".{competition}.kaggle"
    try:
        partial.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{partial} cannot be created ({error}): check the permissions.") from error
    output_text, code = _run(_client(competition), competition, partial, report)
    fetched = partial / archive.name
    if code != 0 or not zipfile.is_zipfile(fetched):
        raise UserError(_explain(output_text, competition, directory))
    fetched.replace(archive)
    shutil.rmtree(partial)
    return archive


def _client(competition: str) -> str:
    """Return the command ``kaggle`` of this Python environment, or else of the user's path."""
    command = shutil.which("kaggle", path=str(Path(sys.executable).parent)) or shutil.which("kaggle")
    if command is None:
        raise UserError(
            "This data set is at Kaggle and the Kaggle client is not installed: run"
            f" `pip install 'beans-probe[kaggle]'`, {_or_by_hand(competition)}"
        )
    return command


def _run(client: str, competition: str, partial: Path, report: Report) -> tuple[str, int]:
    """Run the client. Return its output and its exit status."""
    command = [client, "competitions", "download", "-c", competition, "-p", str(partial)]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            while True:
                try:
                    code = process.wait(_POLL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    report(f"downloading {competition}.zip", *_progress(partial / f"{competition}.zip"), "B")
        finally:
            process.terminate()
            process.wait()
        output.seek(0)
        return output.read().decode(errors="replace"), code


def _progress(file: Path) -> tuple[int, int]:
    """Return the downloaded bytes and all bytes, which the client writes to a file beside it; 0 if it does not."""
    done = file.stat().st_size if file.is_file() else 0
    try:
        return done, int(json.loads(file.with_name(f"{file.name}.kaggle-partial").read_bytes())["size"])
    except (OSError, ValueError, TypeError, LookupError):
        return done, 0


def _or_by_hand(competition: str) -> str:
    return (
        f"or download the files at https://www.kaggle.com/c/{competition}/data by hand and pass their directory with"
        " --source."
    )


def _explain(output_text: str, competition: str, directory: Path) -> str:
    """Return the meaning of the client's output for the user, in one sentence."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", output_text) if line.strip()]
    # The last line states why the client ended. The lines before it are progress and failed attempts.
    last_line = f'the Kaggle client says "{lines[-1]}"' if lines else "the Kaggle client says nothing"
    by_hand = _or_by_hand(competition)

    def matches(pattern: str) -> bool:
        return re.search(pattern, output_text, re.IGNORECASE) is not None

    if matches(r"authentication required|could not find kaggle\.json|\b401 client error|unauthorized"):
        return (
            "Kaggle does not know you: the Kaggle client found no account or its token is not valid. Make a token at"
            " https://www.kaggle.com/settings/api, save it as ~/.kaggle/access_token or set KAGGLE_API_TOKEN, and run"
            f" the same command again; {by_hand}"
        )
    if matches(r"\b403 client error|forbidden|accept[^\n]* rules"):
        return (
            f"Kaggle does not let your account have the files: accept the competition's rules at"
            f" https://www.kaggle.com/c/{competition}/rules and run the same command again; {by_hand} ({last_line})"
        )
    if matches(r"no space left|disk quota exceeded"):
        return (
            f"The disk of {directory} is full: {competition}.zip is downloaded in part; free some space, or set"
            " BEANS_HOME to another disk, and run the same command again."
        )
    if matches(r"max retries exceeded|failed to resolve|connection (aborted|refused|reset|error)|timed out|incomplete"):
        return (
            "Kaggle cannot be reached, or the connection broke off: run the same command again when there is a"
            f" connection; {by_hand} ({last_line})"
        )
    return f"{competition} could not be downloaded from Kaggle ({last_line}): run the same command again, {by_hand}"
