"""Competitions through the real Kaggle client, which talks to a server that plays Kaggle behind a proxy."""

import io
import json
import os
import random
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tasks.prepare import kaggle as module
from tasks.prepare.entries import Entry
from tasks.prepare.fetch import fetch
from tasks.prepare.kaggle import fetch_competition
from tasks.prepare.source import Origin
from tasks.support.errors import UserError

CLIENT = Path(sys.executable).parent / "kaggle"
NAME = "birdsong-recognition"
# What Kaggle answers to an account that did not accept the rules, with and without its own words.
RULES = {"code": 403, "message": "You must accept this competition's rules before you'll be able to download files."}

pytestmark = pytest.mark.skipif(not CLIENT.is_file(), reason="the Kaggle client is not installed")

FETCH = """
import sys
from pathlib import Path
from tasks.prepare import kaggle
kaggle._POLL_SECONDS = .02
kaggle.fetch_competition(sys.argv[1], Path(sys.argv[2]), lambda *said: print(*said[1:3], flush=True))
"""


def quiet(what: str, done: float, total: float, unit: str) -> None:
    pass


def packed() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("train.csv", "filename,ebird_code\n")
        archive.writestr("train_audio/aldfly/XC1.mp3", random.Random(0).randbytes(6_000_000))
    return buffer.getvalue()


CONTENT = packed()


class Kaggle(ThreadingHTTPServer):
    """A proxy that answers for api.kaggle.com and for the storage that it redirects to.

    Attributes:
        status: what the API answers; 302 leads to the file.
        message: sent as the API's JSON.
        knows: what it says of the user's token: that it is valid, that it is not, or 401.
        drop: bytes after which the next answers of the storage break off.
        pause: seconds before each 64 KiB.
        asked: (host, authorization, Range) of every request for the files.
    """

    daemon_threads = True

    def __init__(self, certificate: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(certificate)
        self.status = 302
        self.message: dict[str, Any] | None = None
        self.knows: bool | None = True
        self.drop: list[int] = []
        self.pause = 0.0
        self.asked: list[tuple[str, str | None, str | None]] = []
        self.stopped = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is what these tests are about."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Kaggle

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_CONNECT(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.connection = self.server.tls.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", buffering=0)
        self.close_connection = False

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/IntrospectToken"):
            knows = self.server.knows
            self.reply(401 if knows is None else 200, {"active": bool(knows), "username": "me" if knows else ""})
            return
        assert asked["competitionName"] == NAME
        self.note()
        self.reply(self.server.status, self.server.message)

    def reply(self, status: int, message: dict[str, Any] | None) -> None:
        body = json.dumps(message).encode() if message else b""
        self.send_response(status)
        if status == 302:
            self.send_header("Location", f"https://storage.googleapis.com/kaggle/3/{NAME}.zip?signed=1")
        if body:
            self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.note()
        first = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        content = CONTENT[first:]
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(CONTENT) - 1}/{len(CONTENT)}")
        for name, value in {"ETag": '"1"', "Accept-Ranges": "bytes", "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.send_header("Last-Modified", "Mon, 02 Nov 2026 10:00:00 GMT")
        self.end_headers()
        sent = content[: self.server.drop.pop(0)] if self.server.drop else content
        for start in range(0, len(sent), 1 << 16):
            self.server.stopped.wait(self.server.pause)
            self.wfile.write(sent[start : start + (1 << 16)])
        if len(sent) < len(content):
            self.close_connection = True

    def note(self) -> None:
        headers = self.headers
        self.server.asked.append((headers["Host"], headers.get("Authorization"), headers.get("Range")))


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for the hosts that are played, which is its own authority."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "played")])
    hosts = [x509.DNSName("api.kaggle.com"), x509.DNSName("storage.googleapis.com")]
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "played.pem"
    plain = serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    file.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain) + signed.public_bytes(pem))
    return file


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The environment of somebody who has no account at Kaggle."""
    home = tmp_path / "nobody"
    home.mkdir()
    for name in [name for name in os.environ if name.startswith("KAGGLE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.02)
    return home


@pytest.fixture
def kaggle(nobody: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kaggle]:
    """Kaggle as somebody with an account reaches it."""
    (nobody / ".kaggle").mkdir()
    (nobody / ".kaggle" / "access_token").write_text("my-token")
    server = Kaggle(certificate)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.stopped.set()
    server.shutdown()
    server.server_close()


def refused(directory: Path) -> str:
    with pytest.raises(UserError) as caught:
        fetch_competition(NAME, directory, quiet)
    message = str(caught.value)
    assert "\n" not in message, "not one sentence"
    assert "--source" in message, "no way out"
    assert not (directory / f"{NAME}.zip").exists(), "what failed counts as downloaded"
    return message


def test_a_competition_comes_whole_and_only_once(kaggle: Kaggle, tmp_path: Path) -> None:
    kaggle.pause = 0.005
    said: list[tuple[str, float, float, str]] = []
    path = fetch_competition(NAME, tmp_path / "data", lambda *args: said.append(args))
    assert path == tmp_path / "data" / f"{NAME}.zip" and path.read_bytes() == CONTENT
    assert [file.name for file in (tmp_path / "data").iterdir()] == [path.name], "the client's own files were left"
    assert [host for host, *_ in kaggle.asked] == ["api.kaggle.com", "storage.googleapis.com"]
    assert kaggle.asked[0][1] == "Bearer my-token", "not the user's own account"
    assert {(what, unit) for what, _, _, unit in said} == {(f"downloading {NAME}.zip", "B")}
    assert any(0 < done < total == len(CONTENT) for _, done, total, _ in said), "no progress was told"
    fetch_competition(NAME, tmp_path / "data", quiet)
    assert len(kaggle.asked) == 2, "downloaded again although it was there"


def test_nobody_is_told_how_to_get_an_account(nobody: Path, tmp_path: Path) -> None:
    message = refused(tmp_path / "data")
    assert "Kaggle does not know you" in message and "https://www.kaggle.com/settings/api" in message


@pytest.mark.parametrize("message", [None, {"code": 401, "message": "Unauthorized access"}])
def test_a_wrong_token_is_told_like_none(kaggle: Kaggle, tmp_path: Path, message: dict[str, Any] | None) -> None:
    kaggle.status, kaggle.message = 401, message
    assert "its token is not valid" in refused(tmp_path / "data")


@pytest.mark.parametrize("knows", [False, None])
def test_a_token_that_kaggle_does_not_know_is_told_like_none(
    kaggle: Kaggle, tmp_path: Path, knows: bool | None
) -> None:
    kaggle.knows = knows
    assert "its token is not valid" in refused(tmp_path / "data")


@pytest.mark.parametrize("message", [None, RULES])
def test_rules_that_were_not_accepted_are_named(kaggle: Kaggle, tmp_path: Path, message: dict[str, Any] | None) -> None:
    kaggle.status, kaggle.message = 403, message
    assert f"accept the competition's rules at https://www.kaggle.com/c/{NAME}/rules" in refused(tmp_path / "data")
    kaggle.status, kaggle.message = 302, None
    assert fetch_competition(NAME, tmp_path / "data", quiet).read_bytes() == CONTENT


def test_what_nobody_foresaw_is_said_in_the_clients_words(kaggle: Kaggle, tmp_path: Path) -> None:
    kaggle.status = 404
    message = refused(tmp_path / "data")
    assert f"{NAME} could not be downloaded from Kaggle" in message and "404 Client Error" in message


def test_no_connection_is_one_sentence(kaggle: Kaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert "Kaggle cannot be reached" in refused(tmp_path / "data")


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_a_download_that_was_ended_is_continued(kaggle: Kaggle, tmp_path: Path, ending: signal.Signals) -> None:
    kaggle.pause = 0.05
    command = [sys.executable, "-c", FETCH, NAME, str(tmp_path)]
    # A group of its own, as a shell gives it, so that Ctrl-C and the kill reach the client too.
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if float(line.split()[0]) > 2_000_000:
            break
    os.killpg(process.pid, ending)
    assert process.wait(timeout=20) != 0
    assert not (tmp_path / f"{NAME}.zip").exists(), "half a file counts as downloaded"
    kaggle.pause = 0
    kaggle.asked.clear()
    assert fetch_competition(NAME, tmp_path, quiet).read_bytes() == CONTENT
    continued = kaggle.asked[-1][2]
    assert continued is not None and int(continued.removeprefix("bytes=").rstrip("-")) >= 1 << 20


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system of its own can only be mounted by root")
def test_a_full_disk_is_one_sentence(nobody: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real client waits for a minute before it gives up on a full disk, so a script that fills it plays it."""
    disk, played = tmp_path / "disk", tmp_path / "played"
    disk.mkdir()
    played.mkdir()
    (played / "kaggle").write_text('#!/bin/sh\nhead -c 1000000 /dev/zero > "$6/$4.zip"\n')
    (played / "kaggle").chmod(0o755)
    # Only where it is looked for: what the client is when none is in this environment.
    monkeypatch.setattr(sys, "executable", str(played / "python"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "none", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine may not mount a file system")
    try:
        with pytest.raises(UserError, match=rf"The disk of {disk} is full: {NAME}\.zip") as caught:
            fetch_competition(NAME, disk, quiet)
        assert str(caught.value).endswith("run the same command again.")
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=False)


def test_a_client_that_ends_well_without_the_file_is_not_believed(
    nobody: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kaggle").write_text("#!/bin/sh\necho User cancelled operation\n")
    (tmp_path / "kaggle").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert 'says "User cancelled operation"' in refused(tmp_path / "data")


def test_a_missing_client_is_named(nobody: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    message = refused(tmp_path / "data")
    assert "pip install 'beans-probe[kaggle]'" in message and f"https://www.kaggle.com/c/{NAME}/data" in message
    (tmp_path / "kaggle").symlink_to(CLIENT)
    assert "Kaggle does not know you" in refused(tmp_path / "data"), "the user's own client was not found"


def unread(root: Path) -> list[Entry]:
    raise AssertionError("fetching does not read")


def test_a_kaggle_origin_is_fetched_extracted_and_not_asked_for_again(kaggle: Kaggle, tmp_path: Path) -> None:
    origin = Origin((), unread, rate=44100, kaggle=NAME)
    said: list[str] = []
    kaggle.pause = 0.001
    assert fetch("cbi", origin, tmp_path / "cbi", lambda what, *rest: said.append(what)) == tmp_path / "cbi"
    assert sorted(path.name for path in (tmp_path / "cbi").rglob("*") if path.is_file()) == ["XC1.mp3", "train.csv"]
    assert said[0] == f"cbi: downloading {NAME}.zip" and said[-1] == f"cbi: extracting {NAME}.zip"
    kaggle.asked.clear()
    shutil.rmtree(tmp_path / "nobody")
    fetch("cbi", origin, tmp_path / "cbi", quiet)
    assert kaggle.asked == []
