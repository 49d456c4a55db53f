"""Archives of every kind of badness: nothing lands outside, nothing is half extracted, the next call completes."""

import gzip
import io
import os
import random
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tasks.prepare.archives import DamagedArchiveError, archive_stem, extract, first_files
from tasks.prepare.fetch import prepare_source
from tasks.support.errors import UserError

FILES = {
    "Train/a.wav": random.Random(1).randbytes(30_000),
    "Train/deep/er/b.wav": bytes(50_000),
    "labels, with comma.csv": b"path,label\n",
    "empty.txt": b"",
}
LITTER = {"__MACOSX/Train/._a.wav": b"litter", "Train/__MACOSX/x": b"litter"}

EXTRACT = """
import sys, time
from pathlib import Path
from tasks.prepare.archives import extract
def report(what, done, total, unit):
    print(done, flush=True)
    time.sleep(.2)
extract(Path(sys.argv[1]), Path(sys.argv[2]), report)
"""


def quiet(what: str, done: float, total: float, unit: str) -> None:
    pass


def zipped(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.mkdir("Train")
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, files: dict[str, bytes], prefix: str = "") -> Path:
    with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as archive:
        directory = tarfile.TarInfo(prefix + "Train")
        directory.type = tarfile.DIRTYPE
        archive.addfile(directory)
        for name, content in files.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def packed(directory: Path, suffix: str, files: dict[str, bytes]) -> Path:
    return (zipped if suffix == ".zip" else tarred)(directory / f"data{suffix}", files)


def tree(directory: Path) -> dict[str, bytes]:
    return {str(file.relative_to(directory)): file.read_bytes() for file in directory.rglob("*") if file.is_file()}


def refused(archive: Path) -> str:
    """The sentence that extracting ends with; nothing may stay of it."""
    place = archive.parent / "place"
    place.mkdir()
    with pytest.raises(UserError) as caught:
        extract(archive, place / "data", quiet)
    assert list(place.iterdir()) == [], "something stayed"
    place.rmdir()
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".") and archive.name in message
    return message


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tgz"])
def test_every_file_comes_out_byte_by_byte_without_litter(tmp_path: Path, suffix: str) -> None:
    archive = packed(tmp_path, suffix, FILES | LITTER)
    said: list[tuple[str, float, float, str]] = []
    extract(archive, tmp_path / "out", lambda *args: said.append(args))
    assert tree(tmp_path / "out") == FILES
    assert sorted(path.name for path in tmp_path.iterdir()) == [archive.name, "out"]
    total = sum(map(len, FILES.values()))
    extracting = [done for what, done, *rest in said if [what, *rest] == [f"extracting data{suffix}", total, "B"]]
    assert extracting[0] == 0 and extracting == sorted(extracting) and extracting[-1] == total


@pytest.mark.parametrize("tool", ["tar", "zip"])
def test_archives_of_the_usual_tools_come_out(tmp_path: Path, tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    for name, content in FILES.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    archive = tmp_path / ("a.tar.gz" if tool == "tar" else "a.zip")
    command = ["tar", "czf", str(archive), "."] if tool == "tar" else ["zip", "-qr", str(archive), "."]
    subprocess.run(command, cwd=tmp_path / "in", check=True)
    extract(archive, tmp_path / "out", quiet)
    assert tree(tmp_path / "out") == FILES


def test_the_other_slash_makes_directories(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {r"folder\b.wav": b"2"})
    extract(archive, tmp_path / "out", quiet)
    assert tree(tmp_path / "out") == {"folder/b.wav": b"2"}


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "Train/../../evil", "C:/evil", "c:evil", r"..\evil", r"\evil", "__MACOSX/../../evil"]
)
def test_a_member_that_would_land_outside_is_refused_before_anything_is_written(
    tmp_path: Path, suffix: str, name: str
) -> None:
    written: list[float] = []
    archive = packed(tmp_path, suffix, FILES | {name: b"evil"})
    message = refused(archive)
    assert f"its member {name} would lie outside" in message and "Nothing was extracted" in message
    with pytest.raises(UserError):
        extract(archive, tmp_path / "out", lambda what, *rest: written.append(rest[0]) if "extr" in what else None)
    assert written == [], "the members before it were extracted first"


@pytest.mark.parametrize(
    ("kind", "target", "why"),
    [
        (tarfile.SYMTYPE, "/etc", "is a link"),
        (tarfile.SYMTYPE, "../..", "is a link"),
        (tarfile.LNKTYPE, "../../evil", "is a link"),
        (tarfile.CHRTYPE, "", "is neither a file nor a directory"),
        (tarfile.BLKTYPE, "", "is neither a file nor a directory"),
        (tarfile.FIFOTYPE, "", "is neither a file nor a directory"),
    ],
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes, target: str, why: str) -> None:
    archive = tmp_path / "a.tar.gz"
    with tarfile.open(archive, "w:gz") as opened:
        member = tarfile.TarInfo("odd")
        member.type, member.linkname = kind, target
        opened.addfile(member)
        inside = tarfile.TarInfo("odd/x")
        inside.size = 4
        opened.addfile(inside, io.BytesIO(b"evil"))
    assert f"its member odd {why}" in refused(archive)


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        link = zipfile.ZipInfo("odd")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        opened.writestr(link, "/etc")
    assert "its member odd is a link" in refused(archive)


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_a_truncated_archive_is_one_sentence_wherever_it_ends(tmp_path: Path, suffix: str) -> None:
    whole = packed(tmp_path, suffix, FILES).read_bytes()
    # A tar is whole once its end mark is there; what follows is padding.
    end = len(whole) - (tarfile.RECORDSIZE if suffix == ".tar" else 1)
    places = {*range(0, end, max(end // 60, 1)), *range(0, min(end, 90_000), 512)} if suffix == ".tar" else None
    for length in sorted(places or range(0, end, max(end // 60, 1))):
        archive = tmp_path / f"cut{suffix}"
        archive.write_bytes(whole[:length])
        assert "is damaged" in refused(archive), f"cut after {length} of {len(whole)} bytes"


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_a_flipped_bit_never_gives_other_files(tmp_path: Path, suffix: str) -> None:
    whole = packed(tmp_path, suffix, FILES).read_bytes()
    rng = random.Random(0)
    damaged = 0
    for _ in range(150):
        content = bytearray(whole)
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        archive = tmp_path / f"bad{suffix}"
        archive.write_bytes(content)
        out = tmp_path / "out"
        try:
            extract(archive, out, quiet)
        except UserError as error:
            damaged += isinstance(error, DamagedArchiveError)
            assert not out.exists() and not (tmp_path / ".out.partial").exists()
        else:
            # What is not content, such as dates and names in a zip, may differ.
            assert sorted(tree(out).values()) == sorted(FILES.values())
            shutil.rmtree(out)
    assert damaged > 100


def test_a_wrong_byte_in_the_last_member_leaves_none_of_the_others(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {**FILES, "last.wav": b"\x07" * 9000}, zipfile.ZIP_STORED)
    content = archive.read_bytes()
    place = content.index(b"\x07" * 9000) + 4000
    archive.write_bytes(content[:place] + b"\x08" + content[place + 1 :])
    message = refused(archive)
    assert "Bad CRC-32" in message and "last.wav" in message


def test_a_tar_whose_checksum_is_wrong_at_the_very_end_is_found(tmp_path: Path) -> None:
    archive = tarred(tmp_path / "a.tar.gz", FILES)
    content = bytearray(archive.read_bytes())
    content[-8] ^= 1
    archive.write_bytes(content)
    assert "CRC check failed" in refused(archive)


def test_what_is_no_archive_is_one_sentence(tmp_path: Path) -> None:
    for suffix in (".zip", ".tar", ".tar.gz"):
        (tmp_path / f"a{suffix}").write_bytes(b"<html>please log in</html>" * 99)
        assert "is damaged" in refused(tmp_path / f"a{suffix}")
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress(b"no tar" * 500))
    assert "is damaged" in refused(tmp_path / "b.tar.gz")


def test_an_encrypted_zip_says_so(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"secret.wav": b"x" * 100}, zipfile.ZIP_STORED)
    content = bytearray(archive.read_bytes())
    # The bit that marks encryption, in the directory at the end and in front of the member.
    for mark, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        content[content.rindex(mark) + offset] |= 1
    archive.write_bytes(content)
    message = refused(archive)
    assert "is encrypted (secret.wav)" in message and "--source" in message


def test_a_compression_that_python_does_not_know_says_so(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"x.wav": b"x" * 100}, zipfile.ZIP_STORED)
    content = bytearray(archive.read_bytes())
    # 9 is deflate64, which Windows uses for large files.
    for mark, offset in ((b"PK\x01\x02", 10), (b"PK\x03\x04", 8)):
        content[content.rindex(mark) + offset] = 9
    archive.write_bytes(content)
    message = refused(archive)
    assert "extract it by hand" in message and "damaged" not in message


def test_what_cannot_fit_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("bomb.wav", b"x")
        opened.infolist()[0].file_size = 10**15
    message = refused(archive)
    assert "too little space: what is in a.zip takes 1000000.000 GB" in message and "BEANS_HOME" in message


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system of its own can only be mounted by root")
@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_a_disk_that_fills_midway_leaves_nothing_and_more_space_mends_it(tmp_path: Path, suffix: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    archive = packed(tmp_path, suffix, FILES)
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "none", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine may not mount a file system")
    try:

        def neighbour(what: str, done: float, total: float, unit: str) -> None:
            # Another program takes the space that was free when the extraction began.
            if what.startswith("extracting") and done == 0:
                (disk / "neighbour").write_bytes(bytes(140_000))

        with pytest.raises(UserError, match=rf"The disk of {disk} is full: data\{suffix} does not fit") as caught:
            extract(archive, disk / "out", neighbour)
        assert str(caught.value).endswith("run the same command again.")
        assert [path.name for path in disk.iterdir()] == ["neighbour"]
        with pytest.raises(UserError, match=rf"The disk of {disk} has too little space: .* takes 0\.000 GB"):
            extract(archive, disk / "out", quiet)
        (disk / "neighbour").unlink()
        extract(archive, disk / "out", quiet)
        assert tree(disk / "out") == FILES
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=False)


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_a_killed_extraction_is_done_again(tmp_path: Path, suffix: str) -> None:
    archive = packed(tmp_path, suffix, FILES)
    command = [sys.executable, "-c", EXTRACT, str(archive), str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in process.stdout:
        if (tmp_path / ".out.partial" / "Train" / "a.wav").is_file():
            break
    process.kill()
    assert process.wait() == -9, "it ended before it was killed"
    assert (tmp_path / ".out.partial").is_dir() and not (tmp_path / "out").exists(), "half of it counts as extracted"
    (tmp_path / ".out.partial" / "stale").touch()
    extract(archive, tmp_path / "out", quiet)
    assert tree(tmp_path / "out") == FILES
    assert not (tmp_path / ".out.partial").exists()
    archive.unlink()
    extract(archive, tmp_path / "out", quiet)


def test_names_of_archives() -> None:
    stems = {"a.zip": "a", "speech_v0.02.tar.gz": "speech_v0.02", "B.TGZ": "B", "c.tar": "c", "d.csv": "", "zip": ""}
    assert {name: archive_stem(name) for name in stems} == stems


def test_the_first_files_of_an_archive(tmp_path: Path) -> None:
    for suffix in (".zip", ".tar.gz"):
        archive = packed(tmp_path, suffix, LITTER | FILES)
        assert first_files(archive, 2) == list(FILES)[:2]
        assert first_files(archive, 99) == list(FILES)


# --- the user's own directory


def found(root: Path) -> dict[str, bytes]:
    """What a reader finds: every file below, by name."""
    return {path.name: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_source_without_archives_is_read_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.csv").touch()
    assert prepare_source(tmp_path / "mine", tmp_path / "work", quiet) == tmp_path / "mine"
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_archives_of_a_source_are_extracted_elsewhere_with_what_lies_beside(tmp_path: Path, suffix: str) -> None:
    mine, work = tmp_path / "mine", tmp_path / "work"
    (mine / "meta").mkdir(parents=True)
    (mine / "meta" / "beside.csv").write_bytes(b"path\n")
    (mine / "top.csv").write_bytes(b"top\n")
    archive = packed(mine, suffix, FILES)
    before = tree(mine)
    root = prepare_source(mine, work, quiet)
    expected = {Path(name).name: content for name, content in FILES.items()}
    assert found(root) == {**expected, "beside.csv": b"path\n", "top.csv": b"top\n"}
    assert tree(mine) == before, "written into the user's directory"

    said: list[str] = []
    assert prepare_source(mine, work, lambda what, *rest: said.append(what)) == root
    assert said == [], "extracted again"
    (mine / "new.csv").write_bytes(b"new\n")
    (mine / "top.csv").unlink()
    assert found(prepare_source(mine, work, quiet)) == {**expected, "beside.csv": b"path\n", "new.csv": b"new\n"}

    archive.unlink()
    packed(mine, suffix, {"other.wav": b"other"})
    root = prepare_source(mine, work, quiet)
    assert found(root) == {"other.wav": b"other", "beside.csv": b"path\n", "new.csv": b"new\n"}
    assert list(work.iterdir()) == [root], "what was extracted of the old archive stays"


@pytest.mark.parametrize("below", ["", "data"])
def test_an_archive_whose_content_lies_beside_it_is_left_alone(tmp_path: Path, below: str) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    zipped(mine / "data.zip", FILES)
    with zipfile.ZipFile(mine / "data.zip") as opened:
        opened.extractall(mine / below)
    assert prepare_source(mine, tmp_path / "work", quiet) == mine


def test_a_workspace_inside_the_source_is_not_found_twice(tmp_path: Path) -> None:
    zipped(tmp_path / "data.zip", FILES)
    for _ in range(2):
        root = prepare_source(tmp_path, tmp_path / ".beans" / "data" / "work", quiet)
        assert sorted(path.name for path in root.rglob("*.wav")) == ["a.wav", "b.wav"]


def test_a_damaged_archive_of_the_user_stays_where_it_is(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "a.zip").write_bytes(b"half")
    with pytest.raises(UserError, match=rf"{mine / 'a.zip'} is damaged .*get it again"):
        prepare_source(mine, tmp_path / "work", quiet)
    assert (mine / "a.zip").read_bytes() == b"half"


def test_a_source_that_cannot_be_one_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.zip").touch()
    for name, why in {"gone": "does not exist", "empty": "is empty", "a.zip": "is not a directory"}.items():
        with pytest.raises(UserError, match=rf"--source {tmp_path / name} {why}.*\.$"):
            prepare_source(tmp_path / name, tmp_path / "work", quiet)
