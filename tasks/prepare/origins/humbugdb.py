"""HumBugDB: a table on GitHub, and ``ID.wav`` in four archives on Zenodo."""

from pathlib import Path
from typing import TYPE_CHECKING

from tasks.prepare.entries import Entry
from tasks.prepare.source import Origin, Remote
from tasks.prepare.splits import clips, read_table, stratified
from tasks.support.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

TABLE = "neurips_2021_zenodo_0_0_1.csv"
# Species with at most this number of rows form one class.
_RARE = 100


def read(root: Path) -> list[Entry]:
    """Read the clips, split at random. The label is the species, ``others`` if it is rare, or ``non-mosquito``.

    Raises:
        UserError: the table or its audio is missing, or differs from the expected data.
    """
    table, rows = read_table(root, TABLE, ("id",), gaps=("species",))
    wavs = _wavs(root, {str(name) for name in rows["id"]})
    files = [wavs.get(str(name), table.parent / f"{name}.wav") for name in rows["id"]]
    labels = _labels(rows["species"])
    return clips("humbugdb", table, files, labels, *stratified(table, labels))


def _labels(species: "pd.Series[str]") -> "pd.Series[str]":
    labels = species.fillna("non-mosquito")
    counts = labels.value_counts()
    return labels.replace(list(counts[counts <= _RARE].index), "others")


def _wavs(root: Path, names: set[str]) -> dict[str, Path]:
    """Return the wav files of these names, from any folder."""
    wavs: dict[str, Path] = {}
    for file in sorted(root.rglob("*.wav")):
        if file.stem in names and "__MACOSX" not in file.parts:
            # Other data sets also use numbers as file names.
            if file.stem in wavs:
                raise UserError(
                    f"Both {wavs[file.stem]} and {file} may be meant: point --source at a folder of HumBugDB alone."
                )
            wavs[file.stem] = file
    return wavs


ORIGIN = Origin(
    (
        Remote(
            f"https://raw.githubusercontent.com/HumBug-Mosquito/HumBugDB/master/data/metadata/{TABLE}",
            TABLE,
            md5="c9ac773f2fbd25303db34b9a0ded57d5",
        ),
        *(
            Remote(f"https://zenodo.org/records/4904800/files/{file}", file)
            for file in (f"humbugdb_neurips_2021_{part}.zip" for part in (1, 2, 3, 4))
        ),
    ),
    read,
)
