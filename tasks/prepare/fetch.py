"""Downloads and extracts the files of a data set's origin into a directory."""

import hashlib
import os
import shutil
from pathlib import Path

from tasks.prepare.archives import DamagedArchiveError, archive_stem, extract, first_files
from tasks.prepare.kaggle import fetch_competition
from tasks.prepare.source import Origin, Remote
from tasks.support.errors import UserError
from tasks.support.progress import Report

# Number of an archive's files that are checked to see whether the user extracted it.
_SAMPLE = 20


def fetch(task: str, origin: Origin, directory: Path, report: Report) -> Path:
    """Download all files of an origin into ``directory``. Archives are extracted to ``directory/STEM`` and deleted.

    Finished files are not downloaded again, so the next call continues an interrupted one. Only one process at a time
    may use the directory: the caller holds the task's lock.

    Args:
        task: the task's name, which starts each progress text.
        origin: the files to download.
        directory: created if it does not exist.
        report: receives each file's download and extraction, in bytes.

    Returns:
        ``directory``, for ``origin.read``.

    Raises:
        UserError: as of `download`, `extract` and `fetch_competition`.
    """

    def report_task(what: str, done: float, total: float, unit: str = "") -> None:
        report(f"{task}: {what}", done, total, unit)

    files = [f"{origin.kaggle}.zip"] if origin.kaggle else [remote.file for remote in origin.remotes]
    remotes = {remote.file: remote for remote in origin.remotes}
    for file in files:
        stem = archive_stem(file)
        if not (stem and (directory / stem).is_dir()):
            path = _bring(file, remotes.get(file), origin.kaggle, directory, report_task)
            if stem:
                _extract_fetched(path, directory / stem, report_task)
        if stem:
            (directory / file).unlink(missing_ok=True)
    return directory


def _bring(file: str, remote: Remote | None, competition: str, directory: Path, report: Report) -> Path:
    # A late import: the command line imports this module also when nothing is downloaded.
    from tasks.prepare.download import download

    return download(remote, directory, report) if remote else fetch_competition(competition, directory, report)


def _extract_fetched(archive: Path, directory: Path, report: Report) -> None:
    try:
        extract(archive, directory, report)
    except DamagedArchiveError as error:
        # Every further call would use the damaged file again.
        archive.unlink()
        raise UserError(
            f"{archive.name} was downloaded damaged ({error.reason}) and is deleted: run the same command again; if it"
            " says the same, get the file another way and pass its directory with --source."
        ) from error


def needed(origin: Origin, directory: Path | None = None) -> int | None:
    """Return the number of bytes still to download, as the servers state it; None if no server states it.

    Args:
        origin: the files that would be downloaded.
        directory: holds the files of an earlier call, which are not downloaded again.
    """
    from tasks.prepare.download import to_come

    sizes: list[int] = []
    for remote in () if origin.kaggle else origin.remotes:
        stem = archive_stem(remote.file)
        extracted = bool(stem) and directory is not None and (directory / stem).is_dir()
        size = 0 if extracted else to_come(remote, directory)
        if size is not None:
            sizes.append(size)
    return sum(sizes) if sizes else None


def prepare_source(source: Path, workspace: Path, report: Report) -> Path:
    """Return a directory with the files of the user's own ``source``, in which archives are extracted.

    Without archives this is ``source`` itself. Else it is a directory below ``workspace`` with every archive extracted
    and a link to every other file. Nothing is written into ``source``. A changed archive is extracted again.

    Args:
        source: the directory that the user gave as --source.
        workspace: a directory for this task; created if it does not exist.
        report: receives each extraction, in bytes.

    Raises:
        UserError: the directory does not exist or is empty, or an archive cannot be extracted.
    """
    if not source.is_dir():
        what = "is not a directory: give the one that holds it" if source.exists() else "does not exist: check the path"
        raise UserError(f"--source {source} {what}.")
    source = source.resolve()
    try:
        files = sorted(path for path in source.iterdir() if path.is_file())
        if not any(source.iterdir()):
            raise UserError(f"--source {source} is empty: give the directory that holds the data set's files.")
        archives = [path for path in files if archive_stem(path.name) and not _is_extracted(path)]
        if not archives:
            return source
        root = workspace / _digest(archives)
        _clear(workspace, but=root)
        root.mkdir(parents=True, exist_ok=True)
        for archive in archives:
            extract(archive, root / archive_stem(archive.name), report)
        _link_others(source, archives, workspace, root / "beside")
    except OSError as error:
        raise UserError(f"--source {source} cannot be read into {workspace} ({error}): check both.") from error
    return root


def _is_extracted(archive: Path) -> bool:
    """Return whether the first files of an archive exist beside it, or in a directory of its name."""
    files = first_files(archive, _SAMPLE)
    return any(all((place / file).is_file() for file in files) for place in (archive.parent, _place(archive)))


def _place(archive: Path) -> Path:
    return archive.parent / archive_stem(archive.name)


def _digest(archives: list[Path]) -> str:
    stats = [(archive.name, archive.stat().st_size, archive.stat().st_mtime_ns) for archive in archives]
    return hashlib.sha256(repr((str(archives[0].parent), stats)).encode()).hexdigest()[:16]


def _clear(workspace: Path, but: Path) -> None:
    for old in workspace.iterdir() if workspace.is_dir() else ():
        if old != but:
            shutil.rmtree(old)


def _link_others(source: Path, archives: list[Path], workspace: Path, beside: Path) -> None:
    """Link each file and not the directories, because a recursive search does not follow links to directories."""
    if beside.exists():
        shutil.rmtree(beside)
    left_out, own = set(archives), workspace.resolve()
    for place, directories, files in os.walk(source):
        directories[:] = [name for name in directories if Path(place, name) != own]
        target = beside / Path(place).relative_to(source)
        target.mkdir(parents=True, exist_ok=True)
        for name in files:
            if Path(place, name) not in left_out:
                (target / name).symlink_to(Path(place, name))
