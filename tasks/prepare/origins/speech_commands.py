"""Speech Commands 0.02: one folder a word, ``validation_list.txt`` and ``testing_list.txt``."""

from pathlib import Path

from tasks.prepare.entries import Entry
from tasks.prepare.source import Origin, Remote
from tasks.prepare.splits import clips
from tasks.support.errors import UserError
from tasks.task import Split

_LISTS: dict[str, Split] = {"validation_list.txt": "valid", "testing_list.txt": "test"}
# The few-label variant keeps one of so many train clips, in alphabetical order.
_LOW_STEP = 100


def read(root: Path) -> list[Entry]:
    """The clips, split by the lists that are shipped; what neither names is train.

    Raises:
        UserError: a list, or audio that it names, is missing.
    """
    folder = _folder(root)
    # BEANS takes each list as a set; a name in both would be in both splits.
    listed = [(name, split) for file, split in _LISTS.items() for name in sorted(set(_names(folder / file)))]
    present = {file.relative_to(folder).as_posix() for file in folder.glob("*/*.wav")}
    train = sorted(
        name
        for name in present - {name for name, _ in listed}
        if not name.startswith(("_background_noise_/", "__MACOSX/"))
    )
    low = set(train[::_LOW_STEP])
    rows: list[tuple[str, Split]] = [*((name, "train") for name in train), *listed]
    return clips(
        "speech-commands",
        f"the lists in {folder}",
        [folder / name for name, _ in rows],
        [name.partition("/")[0] for name, _ in rows],
        [split for _, split in rows],
        [name in low for name, _ in rows],
    )


def _folder(root: Path) -> Path:
    """The folder that holds both lists."""
    first, second = _LISTS
    found = [
        file.parent
        for file in sorted(root.rglob(first))
        if "__MACOSX" not in file.parts and file.with_name(second).is_file()
    ]
    if not found:
        raise UserError(
            f"There is no {first} with a {second} beside it in {root}: "
            "point --source at the folder that holds the extracted files."
        )
    if len(found) > 1:
        raise UserError(f"Both {found[0]} and {found[1]} may be meant: point --source at one of them.")
    return found[0]


def _names(file: Path) -> list[str]:
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read as text ({error}): download the data set again.") from error


ORIGIN = Origin(
    (Remote("http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz", "speech_commands_v0.02.tar.gz"),), read
)
