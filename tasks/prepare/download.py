"""Downloads files: continues interrupted downloads and checks each file before it is used.

urllib3 repeats failed requests. The continued download is our own code: no dependency continues a partial file in a
later process and checks that the server still has the same version of the file.
"""

import base64
import binascii
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError as BrokenStream
from urllib3.exceptions import MaxRetryError
from urllib3.util import Retry

from tasks.prepare.source import Remote
from tasks.support.errors import UserError
from tasks.support.files import write_atomically
from tasks.support.progress import Report

TIMEOUT = (15.0, 60.0)
"""Seconds to wait for a connection, and for the next byte."""

RETRIES = Retry(
    total=5,
    backoff_factor=1.0,
    backoff_max=15.0,
    status_forcelist=(408, 425, 429, 500, 502, 503, 504),
    retry_after_max=120,
    raise_on_status=False,
)
"""Five further attempts: at once, and after 2, 4, 8 and 15 seconds, or after the time that the server requests."""

_BLOCK = 1 << 16
_AGAIN = "Check the network. Run the same command again, which continues where it stopped"
_ZENODO = re.compile(r"(?P<host>https?://[^/]+)/records?/(?P<record>\d+)/files/(?P<file>[^?#]+)")

# Without compression in transit, so that byte ranges and checksums refer to the bytes of the file itself.
_HEADERS = {"Accept-Encoding": "identity"}

T = TypeVar("T")


class _InterruptedError(Exception):
    """An attempt ended before the file was complete. The next attempt may succeed."""


@dataclass(frozen=True)
class _Version:
    """The version of the remote file to which a partial file belongs; stored beside the partial file.

    Attributes:
        url: the address of the remote file.
        validator: the server's strong ETag, else its Last-Modified, else "".
        size: of the whole file in bytes, or None if the server does not state it.
        md5: in hexadecimal, or "" if none is published.
    """

    url: str
    validator: str
    size: int | None
    md5: str


def download(remote: Remote, directory: Path, report: Report) -> Path:
    """Download one file into ``directory`` and return its path. An existing file was checked before and is kept.

    The bytes are written to ``FILE.part``. After an interruption the next call continues this file. Only one process at
    a time may download into a directory: the caller holds the task's lock.

    Args:
        remote: the file to download. Its md5 is checked, or else the md5 that the server publishes.
        directory: created if it does not exist.
        report: receives the number of downloaded bytes and of all bytes; 0 if the server does not state it.

    Raises:
        UserError: no connection, an error of the server, a wrong checksum (nothing is kept), or a full disk.
    """
    target, part = directory / remote.file, _part(remote, directory)
    if target.is_file():
        return target
    try:
        directory.mkdir(parents=True, exist_ok=True)
        version = _version(part)
        if version is None or version.url != remote.url or version.size is None or _size(part) != version.size:
            with _session() as session:
                md5, size = _published(remote, session)
                _patiently(remote, lambda: _attempt(remote, session, part, md5, size, report), lambda: _size(part))
            version = _version(part)
        _check(remote, part, version.md5 if version else "", report)
        part.replace(target)
        _note(part).unlink(missing_ok=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"The disk of {directory} is full: {remote.file} is downloaded in part; free some space, or set"
                f" {remote.moved_by} to another disk, and run the same command again, which continues where it stopped."
            ) from error
        raise UserError(f"{target} cannot be written ({error}): check the directory's permissions.") from error
    return target


def to_come(remote: Remote, directory: Path | None = None) -> int | None:
    """Return the number of bytes still to download; None if the server does not state it or cannot be reached."""
    if directory and (directory / remote.file).is_file():
        return 0
    try:
        answer = requests.head(remote.url, headers=_HEADERS, timeout=TIMEOUT, allow_redirects=True)
    except requests.RequestException:
        return None
    length = answer.headers.get("Content-Length", "")
    if not answer.ok or not length.isdigit():
        return None
    return max(int(length) - (_size(_part(remote, directory)) if directory else 0), 0)


def _part(remote: Remote, directory: Path) -> Path:
    return directory / f"{remote.file}.part"


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _version(part: Path) -> _Version | None:
    try:
        return _Version(**json.loads(_note(part).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _session() -> requests.Session:
    session = requests.Session()
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(max_retries=RETRIES))
    return session


def _patiently(remote: Remote, attempt: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
    """Call ``attempt`` and return its result; repeat it if the body ends early, which urllib3 does not handle.

    The count of attempts starts again at zero after an attempt that made progress.

    Raises:
        UserError: no attempt is left, or the server cannot be reached.
    """
    best, retries = progress(), RETRIES
    while True:
        try:
            return attempt()
        except (BrokenStream, _InterruptedError) as error:
            if progress() > best:
                best, retries = progress(), RETRIES
            try:
                retries = retries.increment("GET", remote.url, error=error)
            except MaxRetryError:
                raise _given_up(remote, _reason(error, remote.url)) from error
            retries.sleep()
        except requests.RequestException as error:
            raise _given_up(remote, _reason(error, remote.url)) from error


def _given_up(remote: Remote, reason: str) -> UserError:
    return UserError(f"{remote.url} cannot be downloaded: {reason}. {_AGAIN}; or {remote.otherwise}.")


def _reason(error: Exception, url: str) -> str:
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy of this machine does not let it through"
    if isinstance(error, requests.exceptions.SSLError):
        return f"the certificate of {urlsplit(url).hostname} is not accepted"
    if "timed out" in str(error).lower():
        return f"{urlsplit(url).hostname} does not answer in time"
    if isinstance(error, requests.exceptions.ConnectionError):
        return f"{urlsplit(url).hostname} cannot be reached"
    if isinstance(error, BrokenStream):
        return "the connection broke off again and again"
    return str(error).rstrip(".")


def _accept(response: requests.Response, remote: Remote) -> None:
    """Raise a UserError for an error response. The session has already repeated requests that can be repeated."""
    if response.status_code < 400:
        return
    answer = f"the server answers {response.status_code} {response.reason}".rstrip()
    if response.status_code in (RETRIES.status_forcelist or ()):
        raise _given_up(remote, answer)
    raise UserError(f"{remote.url} cannot be downloaded: {answer}. If that stays so, {remote.otherwise}.")


def _published(remote: Remote, session: requests.Session) -> tuple[str, int | None]:
    """Return the md5 and the size that are published separately: in the catalogue, or in Zenodo's record.

    Raises:
        UserError: Zenodo's record cannot be read or does not list the file.
    """
    match = _ZENODO.fullmatch(remote.url.partition("?")[0])
    if remote.md5 or not match:
        return remote.md5.lower(), None
    record = replace(remote, url=f"{match['host']}/api/records/{match['record']}")

    def ask() -> bytes:
        with session.get(record.url, stream=True, timeout=TIMEOUT) as response:
            _accept(response, record)
            content: bytes = response.raw.read(decode_content=True)
            return content

    answer = _patiently(record, ask)
    try:
        entry = next(file for file in json.loads(answer)["files"] if file["key"] == unquote(match["file"]))
        kind, _, md5 = entry["checksum"].partition(":")
        size = int(entry["size"])
    except (StopIteration, LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{record.url} does not list {unquote(match['file'])} with a checksum, so that a download could not be"
            f" checked; {remote.otherwise}."
        ) from error
    return (md5.lower() if kind == "md5" else ""), size


def _attempt(
    remote: Remote, session: requests.Session, part: Path, md5: str, published_size: int | None, report: Report
) -> None:
    """Download the missing bytes of the partial file, in one request.

    Raises:
        _InterruptedError, BrokenStream: the file is not complete yet, or was discarded.
        requests.RequestException: the server cannot be reached.
        UserError: the server refuses, or the disk has too little space.
    """
    version = _version(part)
    # Without a validator, only a checksum shows whether old and new bytes belong to one file.
    if version is None or version.url != remote.url or not (version.validator or version.md5):
        _discard(part)
    have = _size(part)
    headers = dict(_HEADERS)
    if have and version:
        headers["Range"] = f"bytes={have}-"
        if version.validator:
            headers["If-Range"] = version.validator
    with session.get(remote.url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == 416 and have:
            if response.headers.get("Content-Range") == f"bytes */{have}":
                return
            _discard(part)
            raise _InterruptedError(f"the server does not have the rest of {remote.file}")
        _accept(response, remote)
        total = _total(response, have)
        if response.status_code == 206 and version:
            if not _continues(response, have, total, version):
                _discard(part)
                raise _InterruptedError(f"{remote.file} changed at the server during the download")
        else:
            # The server sends the whole file: no partial file, another version, or no support for ranges.
            _discard(part)
            have = 0
            total = published_size if total is None else total
            new = _Version(remote.url, _validator(response), total, md5 or _google_md5(response))
            write_atomically(_note(part), json.dumps(asdict(new)))
        _require_space(remote, part.parent, (total or have) - have)
        _append(response, part, remote.file, total, report)
    if total is not None and _size(part) != total:
        if _size(part) > total:
            _discard(part)
        raise _InterruptedError(f"the connection broke off after {_size(part)} of {total} bytes")


def _append(response: requests.Response, part: Path, file: str, total: int | None, report: Report) -> None:
    done = _size(part)
    report(f"downloading {file}", done, total or 0, "B")
    with part.open("ab") as out:
        # Not decoded: an archive must stay compressed, even if the server declares compressed content.
        for block in response.raw.stream(_BLOCK, decode_content=False):
            out.write(block)
            done += len(block)
            report(f"downloading {file}", done, total or 0, "B")


def _discard(part: Path) -> None:
    # The partial file first: it must never exist beside the note of another version.
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _total(response: requests.Response, have: int) -> int | None:
    """Return the size of the whole file as the response states it."""
    if response.status_code == 206:
        whole = response.headers.get("Content-Range", "").rpartition("/")[2]
        if whole.isdigit():
            return int(whole)
    length = response.headers.get("Content-Length", "")
    if not length.isdigit():
        return None
    return int(length) + (have if response.status_code == 206 else 0)


def _continues(response: requests.Response, have: int, total: int | None, version: _Version) -> bool:
    """Return whether a partial response continues the partial file. Some servers ignore If-Range."""
    first = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return (
        first is not None
        and int(first[1]) == have
        and _validator(response) in ("", version.validator)
        and (total is None or version.size is None or total == version.size)
    )


def _validator(response: requests.Response) -> str:
    """Return a validator for If-Range. A weak ETag does not identify the exact bytes and is not used."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _google_md5(response: requests.Response) -> str:
    match = re.search(r"\bmd5=([A-Za-z0-9+/]+=*)", response.headers.get("x-goog-hash", ""))
    try:
        return base64.b64decode(match[1]).hex() if match else ""
    except binascii.Error:
        return ""


def _require_space(remote: Remote, directory: Path, need: int) -> None:
    free = shutil.disk_usage(directory).free
    if need > free:
        raise UserError(
            f"The disk of {directory} has too little space: {remote.file} needs {need / 1e9:.3f} GB more and"
            f" {free / 1e9:.3f} GB are free; free some, or set {remote.moved_by} to another disk, and run the same"
            " command again."
        )


def _check(remote: Remote, part: Path, md5: str, report: Report) -> None:
    """Compare the checksum of the file with the published one. Without one, only its size has been compared.

    Raises:
        UserError: the checksums differ; the partial file is deleted.
    """
    digest, done, total = hashlib.md5(usedforsecurity=False), 0, _size(part)
    with part.open("rb") as file:
        # The file must be complete on disk even after a power failure.
        os.fsync(file.fileno())
        while md5 and (block := file.read(1 << 20)):
            digest.update(block)
            done += len(block)
            report(f"checking {remote.file}", done, total, "B")
    if md5 and digest.hexdigest() != md5:
        _discard(part)
        raise UserError(
            f"{remote.url} gave another file than was published: its md5 is {digest.hexdigest()}, published is {md5}."
            f" Nothing was kept: run the same command again; if it says the same, the file changed at its source, so"
            f" {remote.otherwise}."
        )
