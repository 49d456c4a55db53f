"""What a file of this room must offer for each task it can prepare: a generator, or an origin."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tasks.prepare.entries import Entry

Copy = Literal["origin", "beans", "huggingface"]
"""Where a data set is taken from: where its authors publish it, a finished BEANS checkout, or Hugging Face."""

Progress = Callable[[int, int], None]
"""Called with the number of items done and of all items."""


@dataclass(frozen=True)
class Generated:
    """How one generated task comes to lie on disk.

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
        url: where it lies.
        file: what it is called on disk; archives are extracted and the others left as they are.
        md5: in hexadecimal, as published; "" where the server says it (Zenodo's records, Google's hash header).
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
