"""Downloads against a real server that fails in every way: the next call continues, and the file is byte-identical."""

import base64
import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_server import FileServer, serving

from tasks.prepare import download as module
from tasks.prepare.download import download, to_come
from tasks.prepare.entries import Entry
from tasks.prepare.fetch import fetch, needed
from tasks.prepare.source import Origin, Remote
from tasks.support.errors import UserError

CONTENT = bytes(range(256)) * 1500 + os.urandom(16_000)  # 400 kB
OTHER = CONTENT[::-1]
MD5 = hashlib.md5(CONTENT).hexdigest()

DOWNLOAD = """
import sys
from pathlib import Path
from tasks.prepare.download import download
from tasks.prepare.source import Remote
download(Remote(sys.argv[1], "a.zip"), Path(sys.argv[2]), lambda *said: print(said[1], flush=True))
"""


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five attempts, as in earnest, without the waiting."""
    monkeypatch.setattr(module, "RETRIES", module.RETRIES.new(total=4, backoff_factor=0.0))
    monkeypatch.setattr(module, "TIMEOUT", (2.0, 0.5))


def quiet(what: str, done: float, total: float, unit: str) -> None:
    pass


def get(url: str, directory: Path, md5: str = "") -> bytes:
    return download(Remote(url, "a.zip", md5), directory, quiet).read_bytes()


def refused(url: str, directory: Path, md5: str = "") -> str:
    with pytest.raises(UserError) as caught:
        get(url, directory, md5)
    message = str(caught.value)
    assert "\n" not in message and message.endswith("."), "not one sentence"
    assert not (directory / "a.zip").exists(), "what failed counts as downloaded"
    return message


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_file_arrives_whole_and_is_not_downloaded_twice(server: FileServer, tmp_path: Path) -> None:
    url = server.add("/a.zip", CONTENT)
    said: list[tuple[str, float, float, str]] = []
    path = download(Remote(url, "a.zip", MD5.upper()), tmp_path / "new", lambda *args: said.append(args))
    assert path == tmp_path / "new" / "a.zip" and path.read_bytes() == CONTENT
    assert names(tmp_path / "new") == ["a.zip"], "helper files were left"
    coming = [done for what, done, _, _ in said if what == "downloading a.zip"]
    assert coming == sorted(coming) and coming[0] == 0 and coming[-1] == len(CONTENT)
    assert said[-1] == ("checking a.zip", len(CONTENT), len(CONTENT), "B")
    assert {(total, unit) for _, _, total, unit in said} == {(len(CONTENT), "B")}
    assert get(url, tmp_path / "new") == CONTENT
    assert len(server.asked) == 1, "downloaded again although it was there"


def test_dropped_connections_are_continued_where_they_broke(server: FileServer, tmp_path: Path) -> None:
    # More drops than attempts: each gets further, so that none counts.
    url = server.add("/a.zip", CONTENT, drops=[70_000, 70_000, 66_000, 70_000, 100, 0, 70_000])
    assert get(url, tmp_path, MD5) == CONTENT
    asked = server.ranges("/a.zip")
    assert asked[0] is None and len(asked) == 8
    firsts = [int(range_.removeprefix("bytes=").rstrip("-")) for range_ in asked[1:] if range_]
    assert len(firsts) == 7 and firsts == sorted(firsts) and firsts[0] >= 60_000 and firsts[-1] > 250_000
    assert {asked.if_range for asked in server.asked[1:]} == {'"one"'}


def test_when_it_gives_up_the_part_stays_and_the_next_call_continues(server: FileServer, tmp_path: Path) -> None:
    url = server.add("/a.zip", CONTENT, drops=[150_000, 0, 0, 0, 0])
    message = refused(url, tmp_path)
    assert url in message and "Run the same command again" in message and "--source" in message
    have = (tmp_path / "a.zip.part").stat().st_size
    assert 130_000 < have <= 150_000
    server.asked.clear()
    assert get(url, tmp_path) == CONTENT
    assert server.ranges("/a.zip") == [f"bytes={have}-"], "not continued where it stopped"
    assert names(tmp_path) == ["a.zip"]


@pytest.mark.parametrize("if_range", [True, False])
def test_a_file_that_changed_at_the_server_starts_anew(server: FileServer, tmp_path: Path, if_range: bool) -> None:
    url = server.add("/a.zip", CONTENT, drops=[200_000, 0, 0, 0, 0])
    refused(url, tmp_path)
    server.add("/a.zip", OTHER, etag='"two"', if_range=if_range)
    assert get(url, tmp_path) == OTHER, "bytes of two versions were mixed"


@pytest.mark.parametrize("changed", [CONTENT[:100_000], CONTENT[:-50_000], CONTENT + b"more"])
def test_a_file_of_another_length_starts_anew_without_etags(server: FileServer, tmp_path: Path, changed: bytes) -> None:
    when = {"Last-Modified": "Mon, 02 Nov 2026 10:00:00 GMT"}
    url = server.add("/a.zip", CONTENT, etag="", headers=when, drops=[200_000, 0, 0, 0, 0])
    refused(url, tmp_path)
    # A server that goes by neither: only the length tells.
    server.add("/a.zip", changed[::-1], etag="", if_range=False)
    assert get(url, tmp_path) == changed[::-1]


def test_a_date_serves_where_the_etag_is_weak(server: FileServer, tmp_path: Path) -> None:
    when = "Mon, 02 Nov 2026 10:00:00 GMT"
    url = server.add("/a.zip", CONTENT, etag='W/"1"', headers={"Last-Modified": when}, drops=[200_000])
    assert get(url, tmp_path) == CONTENT
    assert [asked.if_range for asked in server.asked] == [None, when], "weak ETags may not be used with If-Range"


def test_without_etag_or_date_only_a_checksum_allows_to_continue(server: FileServer, tmp_path: Path) -> None:
    url = server.add("/a.zip", CONTENT, etag="", drops=[200_000, 100_000])
    assert get(url, tmp_path / "none") == CONTENT
    assert server.ranges("/a.zip") == [None] * 3, "continued although the file may be another"
    server.add("/a.zip", CONTENT, etag="", drops=[200_000])
    server.asked.clear()
    assert get(url, tmp_path / "md5", MD5) == CONTENT
    assert None not in server.ranges("/a.zip")[1:]


def test_a_server_without_ranges_sends_it_again_from_the_start(server: FileServer, tmp_path: Path) -> None:
    url = server.add("/a.zip", CONTENT, ranges=False, drops=[200_000, 100_000])
    assert get(url, tmp_path) == CONTENT
    assert [asked.status for asked in server.asked] == [200, 200, 200]


def test_a_server_without_ranges_that_always_breaks_off_is_given_up(server: FileServer, tmp_path: Path) -> None:
    url = server.add("/a.zip", CONTENT, ranges=False, drops=[200_000, 100_000] * 25)
    assert "broke" in refused(url, tmp_path)
    assert len(server.asked) == 5, "the same bytes were downloaded again and again"


def test_a_stalled_connection_is_left_and_continued(server: FileServer, tmp_path: Path) -> None:
    url = server.add("/a.zip", CONTENT, stalls=[200_000])
    started = time.monotonic()
    assert get(url, tmp_path) == CONTENT
    assert time.monotonic() - started < 2.5, "waited for a server that was silent"
    assert len(server.asked) == 2 and server.asked[1].status == 206


def test_a_server_that_stays_silent_is_one_sentence(server: FileServer, tmp_path: Path) -> None:
    url = server.add("/a.zip", CONTENT, stalls=[0] * 9)
    assert "127.0.0.1 does not answer in time" in refused(url, tmp_path)


@pytest.mark.parametrize("stays", [b"{", b"[]", b"{}", b""])
def test_a_part_whose_note_is_broken_is_not_trusted(server: FileServer, tmp_path: Path, stays: bytes) -> None:
    (tmp_path / "a.zip.part").write_bytes(b"x" * 1000)
    (tmp_path / "a.zip.part.json").write_bytes(stays)
    assert get(server.add("/a.zip", CONTENT), tmp_path) == CONTENT


def test_a_part_of_another_address_is_not_continued(server: FileServer, tmp_path: Path) -> None:
    refused(server.add("/old.zip", OTHER, drops=[200_000, 0, 0, 0, 0]), tmp_path)
    assert get(server.add("/a.zip", CONTENT), tmp_path) == CONTENT
    other = tmp_path / "whole"
    other.mkdir()
    (other / "a.zip.part").write_bytes(OTHER)
    note = {"url": f"{server.url}/old.zip", "validator": '"one"', "size": len(OTHER), "md5": ""}
    (other / "a.zip.part.json").write_text(json.dumps(note))
    assert get(f"{server.url}/a.zip", other) == CONTENT, "a whole part of another address was taken"


def test_a_part_that_is_whole_is_only_checked(server: FileServer, tmp_path: Path) -> None:
    """Killed between the last byte and the new name; where the server had not said a size, it is asked for it."""
    for size in (len(CONTENT), None):
        url = server.add("/a.zip", CONTENT)
        server.asked.clear()
        directory = tmp_path / str(size)
        directory.mkdir()
        (directory / "a.zip.part").write_bytes(CONTENT)
        note = {"url": url, "validator": '"one"', "size": size, "md5": MD5}
        (directory / "a.zip.part.json").write_text(json.dumps(note))
        assert get(url, directory) == CONTENT
        assert [asked.status for asked in server.asked] == ([] if size else [416])


def test_a_content_length_that_is_too_long_ends_all_the_same(server: FileServer, tmp_path: Path) -> None:
    url = server.add("/a.zip", CONTENT, length=str(len(CONTENT) + 1000))
    assert get(url, tmp_path, MD5) == CONTENT


def test_a_content_length_that_is_too_short_is_found_by_the_checksum(server: FileServer, tmp_path: Path) -> None:
    url = server.add("/a.zip", CONTENT, length=str(len(CONTENT) - 1000))
    assert MD5 in refused(url, tmp_path, MD5)


def test_compressed_content_stays_as_it_is(server: FileServer, tmp_path: Path) -> None:
    url = server.add("/a.zip", CONTENT, headers={"Content-Encoding": "gzip"})
    assert get(url, tmp_path) == CONTENT
    assert {asked.encoding for asked in server.asked} == {"identity"}, "other bytes than the file's were asked for"


def test_a_redirect_is_followed_and_its_target_continued(server: FileServer, tmp_path: Path) -> None:
    server.add("/real.zip", CONTENT, drops=[200_000])
    url = server.add("/a.zip", b"", statuses=[302, 302], headers={"Location": f"{server.url}/real.zip"})
    assert get(url, tmp_path, MD5) == CONTENT
    assert len(server.ranges("/real.zip")) == 2 and server.ranges("/real.zip")[1] is not None


# --- checksums


def google(content: bytes) -> dict[str, str]:
    return {"x-goog-hash": f"crc32c=AAAAAA==, md5={base64.b64encode(hashlib.md5(content).digest()).decode()}"}


def zenodo(server: FileServer, content: bytes, file: str = "a b.zip", record: str = "record") -> str:
    """A record of Zenodo with one file, as its API describes it; returns the file's address."""
    checksum = f"md5:{hashlib.md5(content).hexdigest()}"
    entry = {"key": file, "size": len(content), "checksum": checksum, "links": {"self": "elsewhere"}}
    server.add("/api/records/77", json.dumps({"id": 77, "files": [{"key": "x", "checksum": ""}, entry]}).encode())
    return server.add(f"/{record}/77/files/a%20b.zip", content)


def test_a_wrong_file_is_not_kept_and_the_right_one_is_taken_later(server: FileServer, tmp_path: Path) -> None:
    url = server.add("/a.zip", OTHER)
    message = refused(url, tmp_path, MD5)
    assert MD5 in message and hashlib.md5(OTHER).hexdigest() in message and url in message
    assert "Nothing was kept" in message and "run the same command again" in message and "--source" in message
    assert names(tmp_path) == [], "bytes of a wrong file were kept"
    server.add("/a.zip", CONTENT)
    assert get(url, tmp_path, MD5) == CONTENT


def test_googles_storage_says_the_checksum(server: FileServer, tmp_path: Path) -> None:
    url = server.add("/a.zip", OTHER, headers=google(CONTENT))
    assert MD5 in refused(url, tmp_path)
    server.add("/a.zip", CONTENT, headers=google(CONTENT), drops=[200_000])
    assert get(url, tmp_path) == CONTENT


def test_the_checksum_of_the_first_answer_holds_when_the_next_has_none(server: FileServer, tmp_path: Path) -> None:
    url = server.add("/a.zip", OTHER, headers=google(CONTENT), drops=[200_000, 0, 0, 0, 0])
    refused(url, tmp_path)
    server.files["/a.zip"].headers.clear()
    assert MD5 in refused(url, tmp_path)


@pytest.mark.parametrize("record", ["record", "records"])
def test_zenodos_record_says_the_checksum(server: FileServer, tmp_path: Path, record: str) -> None:
    url = zenodo(server, CONTENT, record=record)
    path = f"/{record}/77/files/a%20b.zip"
    server.add(path, OTHER)
    assert MD5 in refused(url, tmp_path)
    server.add(path, CONTENT)
    assert get(f"{url}?download=1", tmp_path) == CONTENT


def test_zenodos_record_says_the_size_where_the_file_does_not(server: FileServer, tmp_path: Path) -> None:
    url = zenodo(server, CONTENT)
    server.add("/record/77/files/a%20b.zip", CONTENT, length="", drops=[200_000])
    assert get(url, tmp_path) == CONTENT, "a connection that broke off was taken for the end"
    assert server.ranges("/record/77/files/a%20b.zip")[1] is not None


def test_a_record_that_breaks_off_is_asked_for_again(server: FileServer, tmp_path: Path) -> None:
    url = zenodo(server, CONTENT)
    server.files["/api/records/77"].statuses = [503]
    server.files["/api/records/77"].drops = [10]
    assert get(url, tmp_path) == CONTENT
    assert [asked.status for asked in server.asked if asked.path == "/api/records/77"] == [503, 200, 200]


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"files": [{"key": "other.zip"}]}', b'{"files": null}'])
def test_a_record_without_the_file_is_one_sentence(server: FileServer, tmp_path: Path, answer: bytes) -> None:
    url = zenodo(server, CONTENT)
    server.add("/api/records/77", answer)
    message = refused(url, tmp_path)
    assert f"{server.url}/api/records/77 does not list a b.zip" in message and "--source" in message


# --- refusals


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_refusal_is_one_sentence_at_once(server: FileServer, tmp_path: Path, status: int) -> None:
    url = server.add("/a.zip", CONTENT, statuses=[status])
    message = refused(url, tmp_path)
    assert url in message and str(status) in message and "--source" in message
    assert len(server.asked) == 1


def test_a_refusal_midway_keeps_the_part(server: FileServer, tmp_path: Path) -> None:
    url = server.add("/a.zip", CONTENT, drops=[200_000], statuses=[0, 403])
    refused(url, tmp_path)
    server.asked.clear()
    assert get(url, tmp_path) == CONTENT
    assert server.asked[0].status == 206


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_in_trouble_is_asked_again(server: FileServer, tmp_path: Path, status: int) -> None:
    url = server.add("/a.zip", CONTENT, statuses=[status, status])
    assert get(url, tmp_path) == CONTENT
    server.add("/a.zip", CONTENT, statuses=[status] * 5)
    message = refused(url, tmp_path / "other")
    assert url in message and str(status) in message and "Run the same command again" in message


def test_a_server_says_how_long_to_wait(server: FileServer, tmp_path: Path) -> None:
    url = server.add("/a.zip", CONTENT, statuses=[429], headers={"Retry-After": "1"})
    started = time.monotonic()
    assert get(url, tmp_path) == CONTENT
    assert time.monotonic() - started >= 1


def test_no_connection_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/a.zip"
    message = refused(url, tmp_path)
    assert url in message and "127.0.0.1 cannot be reached" in message and "--source" in message


def test_a_directory_that_cannot_be_written_is_one_sentence(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        get(server.add("/a.zip", CONTENT), tmp_path / "file" / "below")


# --- the disk


def test_a_file_that_cannot_fit_is_refused_before_it_comes(server: FileServer, tmp_path: Path) -> None:
    url = server.add("/a.zip", CONTENT, length=str(10**15))
    message = refused(url, tmp_path)
    assert "1000000.000 GB more" in message and str(tmp_path) in message and "BEANS_HOME" in message
    assert not (tmp_path / "a.zip.part").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system of its own can only be mounted by root")
def test_a_disk_that_fills_midway_keeps_the_part(server: FileServer, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "none", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine may not mount a file system")
    try:
        # The server does not say how long it is, so that it cannot be refused before.
        url = server.add("/a.zip", CONTENT, length="")
        message = refused(url, disk)
        assert f"The disk of {disk} is full" in message and "continues where it stopped" in message
        have = (disk / "a.zip.part").stat().st_size
        assert 100_000 < have <= 200 * 1024
        server.add("/a.zip", CONTENT)
        message = refused(url, disk)
        assert "too little space" in message and str(disk) in message
        assert (disk / "a.zip.part").stat().st_size == have
        subprocess.run(["mount", "-o", "remount,size=2m", str(disk)], check=True)
        assert get(url, disk) == CONTENT
        assert server.ranges("/a.zip")[-1] == f"bytes={have}-"
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=False)


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_download_is_continued(server: FileServer, tmp_path: Path, ending: signal.Signals) -> None:
    url = server.add("/a.zip", CONTENT, pause=0.05)
    command = [sys.executable, "-c", DOWNLOAD, url, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) > 150_000:
            break
    process.send_signal(ending)
    assert process.wait(timeout=20) != 0
    have = (tmp_path / "a.zip.part").stat().st_size
    assert 100_000 < have < len(CONTENT), "not ended midway"
    assert not (tmp_path / "a.zip").exists()
    server.files["/a.zip"].pause = 0
    assert get(url, tmp_path) == CONTENT
    assert server.ranges("/a.zip") == [None, f"bytes={have}-"]


# --- whole origins


def packed(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"inside/{name}", content)
    return buffer.getvalue()


def unread(root: Path) -> list[Entry]:
    raise AssertionError("fetching does not read")


def tree(directory: Path) -> dict[str, bytes]:
    return {str(file.relative_to(directory)): file.read_bytes() for file in directory.rglob("*") if file.is_file()}


def test_an_origin_is_fetched_extracted_and_continued(server: FileServer, tmp_path: Path) -> None:
    server.add("/one.zip", packed(x=b"1", y=b"2"))
    server.add("/meta.csv", b"path,label\n")
    server.add("/two.zip", packed(z=CONTENT), statuses=[404])
    files = ("one.zip", "meta.csv", "two.zip")
    origin = Origin(tuple(Remote(f"{server.url}/{file}", file) for file in files), unread)
    directory = tmp_path / "data"
    assert needed(origin) == sum(len(server.files[f"/{file}"].content) for file in files[:2]), "HEAD met the 404"
    server.files["/two.zip"].statuses = [404]
    with pytest.raises(UserError, match="404"):
        fetch("watkins", origin, directory, quiet)
    assert tree(directory) == {"one/inside/x": b"1", "one/inside/y": b"2", "meta.csv": b"path,label\n"}
    server.asked.clear()
    assert needed(origin, directory) == len(server.files["/two.zip"].content)
    said: list[tuple[str, float, float, str]] = []
    assert fetch("watkins", origin, directory, lambda *args: said.append(args)) == directory
    assert tree(directory)["two/inside/z"] == CONTENT and len(tree(directory)) == 4, "an archive was kept"
    assert {asked.path for asked in server.asked} == {"/two.zip"}, "finished steps were done again"
    assert said[0][0] == "watkins: downloading two.zip"
    assert said[-1] == ("watkins: extracting two.zip", len(CONTENT), len(CONTENT), "B")
    server.asked.clear()
    fetch("watkins", origin, directory, quiet)
    assert needed(origin, directory) == 0 and server.asked == []


def test_an_archive_left_beside_what_was_extracted_of_it_is_removed(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one.zip").write_bytes(b"killed before it was deleted")
    fetch("watkins", Origin((Remote(server.add("/one.zip", b""), "one.zip"),), unread), tmp_path, quiet)
    assert names(tmp_path) == ["one"]


def test_a_damaged_archive_is_deleted_and_downloaded_anew(server: FileServer, tmp_path: Path) -> None:
    url = server.add("/one.zip", b"<html>please log in</html>")
    origin = Origin((Remote(url, "one.zip"),), unread)
    with pytest.raises(UserError, match=r"one\.zip was downloaded damaged .*run the same command again"):
        fetch("esc50", origin, tmp_path, quiet)
    assert names(tmp_path) == []
    server.add("/one.zip", packed(x=b"1"))
    fetch("esc50", origin, tmp_path, quiet)
    assert tree(tmp_path) == {"one/inside/x": b"1"}


def test_what_is_needed_is_unknown_where_nobody_says(server: FileServer, tmp_path: Path) -> None:
    url = server.add("/a.zip", CONTENT, length="")
    assert needed(Origin((Remote(url, "a.zip"),), unread)) is None
    assert needed(Origin((), unread, kaggle="birdsong-recognition")) is None
    assert to_come(Remote("http://127.0.0.1:9/a.zip", "a.zip")) is None
    server.add("/a.zip", CONTENT)
    (tmp_path / "a.zip.part").write_bytes(CONTENT[:1000])
    assert needed(Origin((Remote(url, "a.zip"),), unread), tmp_path) == len(CONTENT) - 1000
