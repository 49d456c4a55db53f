"""Extracts archives, completely or not at all. Members outside the target directory are refused."""

import errno
import gzip
import lzma
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, cast

from tasks.support.errors import UserError
from tasks.support.progress import Report

SUFFIXES = (".zip", ".tar.gz", ".tgz", ".tar")
"""Endings of the names of archives."""

_BLOCK = 4096
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    OverflowError,
)


class DamagedArchiveError(UserError):
    """An archive is truncated or corrupt; ``reason`` states the evidence."""

    def __init__(self, archive: Path, reason: str) -> None:
        self.reason = reason
        super().__init__(f"{archive} is damaged ({reason}): get it again.")


def archive_stem(file: str) -> str:
    """Return the name of an archive without its suffix; "" for a file that is not an archive."""
    suffix = next((suffix for suffix in SUFFIXES if file.lower().endswith(suffix)), "")
    return file[: -len(suffix)] if suffix else ""


def extract(archive: Path, directory: Path, report: Report) -> None:
    """Extract a zip or tar archive into a new ``directory``, which appears in one step with all its files.

    An existing directory was extracted completely and is not changed. ``__MACOSX`` is skipped.

    Args:
        archive: named ``*.zip``, ``*.tar``, ``*.tar.gz`` or ``*.tgz``.
        directory: the target; its parent must exist.
        report: receives the number of extracted bytes and of all bytes.

    Raises:
        DamagedArchiveError: the archive is truncated or corrupt.
        UserError: the archive is encrypted, holds a link, a device or a path outside the directory, or does not fit on
            the disk. After any error nothing of the archive remains.
    """
    if directory.is_dir():
        return
    partial = directory.with_name(f".{directory.name}.partial")
    try:
        if partial.exists():
            shutil.rmtree(partial)
        with _readable(archive):
            if archive.name.lower().endswith(".zip"):
                _extract_zip(archive, partial, report)
            else:
                _extract_tar(archive, partial, report)
        partial.rename(directory)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"The disk of {directory.parent} is full: {archive.name} does not fit; free some space, or set"
                " BEANS_HOME to another disk, and run the same command again."
            ) from error
        raise UserError(
            f"{archive} cannot be extracted into {directory.parent} ({error}): check the disk and its permissions."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def first_files(archive: Path, count: int) -> list[str]:
    """Return the paths of the first files in an archive, relative to the archive.

    Raises:
        DamagedArchiveError: the archive cannot be read.
        UserError: the archive holds a member that `extract` refuses.
    """
    with _readable(archive):
        if archive.name.lower().endswith(".zip"):
            with zipfile.ZipFile(archive) as opened:
                paths = (path for info in opened.infolist() if not info.is_dir() and (path := _path(archive, info)))
                return list(islice(paths, count))
        with _open_tar(archive) as (_, tar):
            paths = (path for member in tar if member.isfile() and (path := _path(archive, member)))
            return list(islice(paths, count))


@contextmanager
def _readable(archive: Path) -> Iterator[None]:
    """Turn the exceptions of zipfile and tarfile for a bad archive into a UserError."""
    try:
        yield
    except _DAMAGE as error:
        raise DamagedArchiveError(archive, str(error).rstrip(".") or type(error).__name__) from error
    except OSError as error:
        # Errors of the operating system have a number. Errors of gzip and bz2 for bad data have none.
        if error.errno is not None:
            raise
        raise DamagedArchiveError(archive, str(error)) from error
    except NotImplementedError as error:
        raise UserError(
            f"{archive} is packed in a way that Python cannot read ({error}): extract it by hand and pass its"
            " directory with --source."
        ) from error


def _path(archive: Path, member: zipfile.ZipInfo | tarfile.TarInfo) -> str:
    """Return the member's path below the directory; "" for a member that is skipped.

    Raises:
        UserError: the member is not a plain file or directory, or its path is outside the directory.
    """
    if isinstance(member, zipfile.ZipInfo):
        name, kind = member.filename, stat.S_IFMT(member.external_attr >> 16)
        plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
        link = kind == stat.S_IFLNK
    else:
        name, plain, link = member.name, member.isfile() or member.isdir(), member.islnk() or member.issym()
    # Some programs write backslashes into zip files.
    slashed = name.replace("\\", "/")
    parts = PurePosixPath(slashed).parts
    if slashed.startswith("/") or ".." in parts or re.match("[A-Za-z]:", slashed):
        why = "would lie outside the directory"
    elif not plain:
        why = "is a link" if link else "is neither a file nor a directory"
    else:
        return "" if "__MACOSX" in parts else "/".join(parts)
    raise UserError(
        f"{archive} is refused: its member {name} {why}. Nothing was extracted; get the archive from its source again,"
        " or extract it by hand and pass its directory with --source."
    )


def _require_space(archive: Path, partial: Path, sizes: list[int]) -> int:
    """Return the sum of the sizes in bytes. Fail if the disk has too little space."""
    need = sum(-(-size // _BLOCK) * _BLOCK for size in sizes)
    free = shutil.disk_usage(partial.parent).free
    if need > free:
        raise UserError(
            f"The disk of {partial.parent} has too little space: what is in {archive.name} takes {need / 1e9:.3f} GB"
            f" and {free / 1e9:.3f} GB are free; free some, or set BEANS_HOME to another disk, and run the same"
            " command again."
        )
    return sum(sizes)


def _extract_zip(archive: Path, partial: Path, report: Report) -> None:
    with zipfile.ZipFile(archive) as opened:
        members = [(info, path) for info in opened.infolist() if (path := _path(archive, info))]
        encrypted = next((info.filename for info, _ in members if info.flag_bits & 1), None)
        if encrypted is not None:
            raise UserError(
                f"{archive} is encrypted ({encrypted}): extract it by hand with its password and pass its directory"
                " with --source."
            )
        total = _require_space(archive, partial, [info.file_size for info, _ in members])
        partial.mkdir()
        done = 0
        report(f"extracting {archive.name}", done, total, "B")
        for info, path in members:
            info.filename = path + "/" * info.is_dir()
            opened.extract(info, partial)
            done += info.file_size
            report(f"extracting {archive.name}", done, total, "B")


@contextmanager
def _open_tar(archive: Path) -> Iterator[tuple[IO[bytes], tarfile.TarFile]]:
    """Open a tar archive, compressed or not. Yield the file of the archive and the tar."""
    with archive.open("rb") as raw:
        compressed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        content = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if compressed else raw
        with content, tarfile.open(fileobj=content, mode="r:") as tar:
            yield raw, tar


def _extract_tar(archive: Path, partial: Path, report: Report) -> None:
    # A tar has no list of its members. It is read once to check them and once to extract them.
    packed, sizes = archive.stat().st_size, []
    with _open_tar(archive) as (raw, tar):
        for member in tar:
            if _path(archive, member):
                sizes.append(member.size)
            report(f"checking {archive.name}", raw.tell(), packed, "B")
        _require_end(tar)
    total = _require_space(archive, partial, sizes)
    partial.mkdir()
    done = 0
    report(f"extracting {archive.name}", done, total, "B")
    with _open_tar(archive) as (_, tar):
        for member in tar:
            if _path(archive, member):
                tar.extract(member, partial, filter="data")
                done += member.size
                report(f"extracting {archive.name}", done, total, "B")


def _require_end(tar: tarfile.TarFile) -> None:
    """Refuse a tar whose end is missing. Read the tar to its end, so that gzip compares its checksum.

    tarfile treats the first header that it cannot read as the end.
    """
    content = cast(IO[bytes], tar.fileobj)
    content.seek(tar.offset)
    if content.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it ends in the middle")
    while content.read(1 << 20):
        pass
