"""Speech Commands 0.02: one folder per word, ``validation_list.txt`` and ``testing_list.txt``."""

from pathlib import Path

from tasks.prepare.entries import Entry
from tasks.prepare.source import Origin, Remote
from tasks.prepare.splits import clips
from tasks.support.errors import UserError
from tasks.task import Split

_LISTS: dict[str, Split] = {"validation_list.txt": "valid", "testing_list.txt": "test"}
# The few-label variant keeps every hundredth train clip, in alphabetical order.
_LOW_STEP = 100


def read(root: Path) -> list[Entry]:
    """Read the clips, split by the published lists. Clips in neither list are train.

    Raises:
        UserError: a list or its audio is missing.
    """
    folder = _folder(root)
    # As in BEANS, each list is a set. A name in both lists would be in both splits.
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
    """Return the folder that holds both lists."""
    first, second = _LISTS
    folders = [
        file.parent
        for file in sorted(root.rglob(first))
        if "__MACOSX" not in file.parts and file.with_name(second).is_file()
    ]
    if not folders:
        raise UserError(
            f"There is no {first} with a {second} beside it in {root}: "
            "point --source at the folder that holds the extracted files."
        )
    if len(folders) > 1:
        raise UserError(f"Both {folders[0]} and {folders[1]} may be meant: point --source at one of them.")
    return folders[0]


def _names(file: Path) -> list[str]:
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read as text ({error}): download the data set again.") from error


ORIGIN = Origin(
    (Remote("http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz", "speech_commands_v0.02.tar.gz"),), read
)
