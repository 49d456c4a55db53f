"""Types that the modules of this package declare: sources for ``--from``, generators, and origins of data sets."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tasks.prepare.entries import Entry
from tasks.support.progress import Report
from tasks.task import Task

# Changed whenever the prepared files of the same items change.
BEANS_VERSION = "beans/1"

Progress = Callable[[int, int], None]
"""Receives the number of finished items and of all items."""


@dataclass(frozen=True)
class Generated:
    """How the files of one generated task are written.

    Attributes:
        version: changes whenever the prepared files change. Data with another version is prepared again.
        size: disk space of the result, in bytes.
        build: writes the task's files into an empty directory. `prepare` handles interruption, other processes and
            disk errors.
    """

    version: str
    size: int
    build: Callable[[Path, Progress], None]


@dataclass(frozen=True)
class Remote:
    """One file to download.

    Attributes:
        url: its address.
        file: its name on disk. Archives are extracted; other files are not changed.
        md5: the published md5 in hexadecimal; "" if the server states it (Zenodo's records, Google's hash header).
        otherwise: what a user can do if the download fails, for messages.
        moved_by: the environment variable that moves the directory to another disk, for messages.
    """

    url: str
    file: str
    md5: str = ""
    otherwise: str = "get the file another way and pass its directory with --source"
    moved_by: str = "BEANS_HOME"


@dataclass(frozen=True)
class Origin:
    """The files of a data set as its authors publish them.

    Attributes:
        remotes: the files to download.
        read: reads the items from a directory that holds the extracted files, at any depth.
        rate: BEANS first resamples the audio to this rate (Hz); None if it keeps the native rate.
        kaggle: the competition whose files the user's Kaggle client downloads, instead of ``remotes``.
    """

    remotes: tuple[Remote, ...]
    read: Callable[[Path], list[Entry]]
    rate: int | None = None
    kaggle: str = ""


@dataclass(frozen=True)
class Request:
    """The arguments of a source's ``read``.

    Attributes:
        task: the task; ``task.prepare.table`` returns the settings for this source.
        directory: the user's ``--source``, or None.
        workspace: for downloads and extracted archives; kept until the task is prepared. It may not exist yet.
        report: receives the progress.
        say: receives a sentence for the user before the work starts, such as the size of a download.
    """

    task: Task
    directory: Path | None
    workspace: Path
    report: Report
    say: Callable[[str], None]


@dataclass(frozen=True)
class Items:
    """The items of a task that a source returns.

    Attributes:
        entries: clips or recordings, in the order of the manifest.
        root: the directory of their audio; ``Path()`` if the audio is inside tables.
        rate: Hz to resample the audio to, or None to keep each file's own rate.
    """

    entries: list[Entry]
    root: Path
    rate: int | None = None


@dataclass(frozen=True)
class Source:
    """One choice of ``--from``. Its module imports heavy libraries inside functions, because help texts import it.

    Attributes:
        help: the place of the data set, as a participle: "read from a finished BEANS checkout".
        needs: what the user must have.
        has: returns whether the source has a task.
        read: returns the items. The suite handles FLAC files, manifests, interruption and full disks.
        generated: used instead of ``read``: returns the generator of the task's files.
        needs_directory: whether ``--source`` is required.
        title: the name of the source in results; "" for its registered name.
    """

    help: str
    needs: str
    has: Callable[[Task], bool]
    read: Callable[[Request], Items] | None = None
    generated: Callable[[Task], Generated] | None = None
    needs_directory: bool = False
    title: str = ""

    def version(self, task: Task) -> str:
        """Return the version of the files that this suite prepares. Data of another version are prepared again."""
        return self.generated(task).version if self.generated else BEANS_VERSION
