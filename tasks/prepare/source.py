"""What the modules of this room declare: a source for ``--from``, a generator, or the origin of a data set."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tasks.prepare.entries import Entry
from tasks.support.progress import Report
from tasks.task import Task

# Changes when the files that items are written to do.
BEANS_VERSION = "beans/1"

Progress = Callable[[int, int], None]
"""Called with the number of items done and of all items."""


@dataclass(frozen=True)
class Generated:
    """How the files of one generated task are made.

    Attributes:
        version: changes when the prepared files do; data marked with another version is prepared anew.
        size: disk space the result takes, in bytes.
        build: writes the task's files into an empty directory. It need not care about interruption, other processes
            or errors of the disk: `prepare` does.
    """

    version: str
    size: int
    build: Callable[[Path, Progress], None]


@dataclass(frozen=True)
class Remote:
    """One file to download.

    Attributes:
        url: its address.
        file: what it is called on disk; archives are extracted and the others left as they are.
        md5: in hexadecimal, as published; "" where the server states it (Zenodo's records, Google's hash header).
        otherwise: what a user can do who cannot download it, for messages.
        moved_by: the environment variable that moves the directory to another disk, for messages.
    """

    url: str
    file: str
    md5: str = ""
    otherwise: str = "get the file another way and pass its directory with --source"
    moved_by: str = "BEANS_HOME"


@dataclass(frozen=True)
class Origin:
    """A data set where its authors publish it.

    Attributes:
        remotes: what to download.
        read: finds the items in a directory that holds the extracted files, at whatever depth.
        rate: Hz that BEANS resamples the audio to before anything else, or None where it is left as it is.
        kaggle: the competition whose files the user's Kaggle client fetches, instead of ``remotes``.
    """

    remotes: tuple[Remote, ...]
    read: Callable[[Path], list[Entry]]
    rate: int | None = None
    kaggle: str = ""


@dataclass(frozen=True)
class Request:
    """What a source reads, and for which task.

    Attributes:
        task: with the facts of its file; ``task.prepare.table`` reads those for this source.
        directory: the user's ``--source``, or None.
        workspace: for downloads and extracted archives, kept until the task is prepared. It need not exist.
        report: called with the progress.
        say: called with a sentence that the user should know beforehand, such as the size of a download.
    """

    task: Task
    directory: Path | None
    workspace: Path
    report: Report
    say: Callable[[str], None]


@dataclass(frozen=True)
class Items:
    """The items that a source has of a task.

    Attributes:
        entries: clips or recordings, in the order of the manifest.
        root: the directory of their audio; ``Path()`` where the audio is inside tables.
        rate: Hz to resample the audio to, or None to keep each file's own rate.
    """

    entries: list[Entry]
    root: Path
    rate: int | None = None


@dataclass(frozen=True)
class Source:
    """One choice of ``--from``. Its module imports heavy libraries inside functions: a help text imports every module.

    Attributes:
        help: where a data set is taken from, as a participle: "read from a finished BEANS checkout".
        needs: what the user must have.
        has: whether the source has a task.
        read: finds the items. Downloads, FLAC files, manifests, interruption and full disks are the suite's business.
        generated: instead of ``read``: what writes the task's files on this machine.
        needs_directory: whether ``--source`` must be given.
        title: how results name the source; its name where this is "".
    """

    help: str
    needs: str
    has: Callable[[Task], bool]
    read: Callable[[Request], Items] | None = None
    generated: Callable[[Task], Generated] | None = None
    needs_directory: bool = False
    title: str = ""

    def version(self, task: Task) -> str:
        """The version of the files that this suite prepares: data of another version are prepared anew."""
        return self.generated(task).version if self.generated else BEANS_VERSION
