"""What is odd about the sounds of a task, counted per split. It is no reason to refuse them."""

from collections import defaultdict
from collections.abc import Iterator

from evaluator.features.clips import Clip
from evaluator.features.extraction import Extractor
from evaluator.features.shards import faults, pooled_path, read
from evaluator.features.store import Features
from leaderboard.records.plausibility import shown
from leaderboard.records.record import DataWarning, WarningKind
from tasks.sound.faults import Fault
from tasks.support.errors import UserError
from tasks.task import SPLITS, Split

# Characters of an example. An item's id may be a long path.
_EXAMPLE = 200
_KINDS: dict[Fault, WarningKind] = {
    Fault.SILENT: "silent",
    Fault.CANCELLING: "cancelling",
    Fault.CLIPPED: "clipped",
}


def data_warnings(features: Features, extractor: Extractor) -> list[DataWarning] | None:
    """The warnings on the sounds of a task.

    None if nothing was decoded, because the features were computed elsewhere; or if features of an older version do not
    state what was found, and a file can no longer be decoded. A result must not fail for that.
    """
    if not extractor.needs_audio:
        return None
    try:
        found = _found(features, extractor.model.backbone.sample_rate)
    except UserError:
        return None
    return [
        DataWarning(
            kind=kind,
            **{split: sum(where == split for where, _ in places) for split in SPLITS},
            example=shown(places[0][1], _EXAMPLE),
        )
        for kind, places in sorted(found.items())
    ]


def _found(features: Features, rate: int) -> dict[WarningKind, list[tuple[Split, str]]]:
    """By kind: the split of every clip that it concerns, and what names it."""
    found: dict[WarningKind, list[tuple[Split, str]]] = defaultdict(list)
    sounds: dict[int, list[tuple[Split, str]]] = defaultdict(list)
    for split, shards in features.plans.items():
        for shard in shards:
            own = faults(features.directory, shard, rate).tolist()
            prints = read(pooled_path(features.directory, shard))["sounds"].tolist()
            for clip, number, sound in zip(shard.clips, own, prints, strict=True):
                for kind in (*_of_file(clip), *(_KINDS[fault] for fault in Fault(number))):
                    found[kind].append((split, clip.item.id))
                # 0 is silence.
                if sound:
                    sounds[sound].append((split, clip.item.id))
    for same in sounds.values():
        other = next((one for one in same if one[0] != same[0][0]), None)
        if other is not None:
            example = f"{same[0][1]} ({same[0][0]}) = {other[1]} ({other[0]})"
            found["shared"] += [(split, example) for split, _ in same]
    return found


def _of_file(clip: Clip) -> Iterator[WarningKind]:
    """The warnings that follow from the header of a clip's file."""
    if clip.header.cut:
        yield "cut"
    if clip.item.window is None and clip.cut.stop < clip.header.frames:
        yield "cropped"
