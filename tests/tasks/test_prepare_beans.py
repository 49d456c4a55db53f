"""BEANS tasks on the disk: the same items and sound from every copy, and nothing lost or half-made on the way there."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import parquet_copy
import pytest
import replicas_clips
import replicas_recordings
import soundfile

from evaluator.features.clips import plan, waveforms
from tasks.manifest import read_manifest
from tasks.prepare import is_prepared, preparation, prepare, why_not_prepared
from tasks.support.errors import UserError
from tasks.task import SPLITS, Manifest, load_task

TASKS = [*replicas_clips.TASKS, *replicas_recordings.TASKS]
# One step of 16 bits, and half of one for what was rounded before.
STEP = 1.5 / 2**15
# Resampled by BEANS with SoX, which its replica plays with another kernel.
BY_SOX = ("cbi", "dogs")
# Resampled by BEANS with torchaudio, whose filter differs near the highest frequency that both rates hold.
BY_TORCHAUDIO = ("dcase", "enabirds", "hainan-gibbons", "rfcx")


def make(name: str, root: Path) -> tuple[Path, Path]:
    """A miniature of a task's origin, and of BEANS' checkout."""
    replicas = replicas_clips if name in replicas_clips.TASKS else replicas_recordings
    replicas.origin(name, root / "origin")
    replicas.beans(name, root / "origin", root / "checkout")
    return root / "origin", root / "checkout"


def manifest(name: str, data: Path) -> Manifest:
    return read_manifest(load_task(name, data=data))


def facts(one: Manifest) -> dict[str, list[tuple[object, ...]]]:
    """All that a result depends on, in its order."""
    return {
        split: [(item.id, item.labels, item.recording, item.window, item.low) for item in one.items[split]]
        for split in SPLITS
    }


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_the_same_from_every_copy(tmp_path: Path, name: str) -> None:
    origin, checkout = make(name, tmp_path)
    parquet_copy.write(name, checkout, tmp_path / "parquet", low=True)
    prepare(name, tmp_path / "1", source=origin)
    prepare(name, tmp_path / "2", copy="beans", source=checkout)
    prepare(name, tmp_path / "3", copy="huggingface", source=tmp_path / "parquet")
    manifests = [manifest(name, tmp_path / number) for number in "123"]
    assert all(manifests[0].items[split] for split in SPLITS)
    assert facts(manifests[0]) == facts(manifests[1]) == facts(manifests[2])
    assert len({one.split_hash for one in manifests}) == 1
    # And so is its sound: that of BEANS' own files.
    task = manifests[0].task
    files = {item.path for split in SPLITS for item in manifests[0].items[split]}
    rates = set()
    for file in sorted(files):
        info = soundfile.info(file)
        assert (info.format, info.subtype, info.channels) == ("FLAC", "PCM_16", 1)
        rates.add(info.samplerate)
        ours, _ = soundfile.read(file)
        theirs, _ = soundfile.read(tmp_path / "2" / name / file.relative_to(tmp_path / "1" / name))
        assert abs(len(ours) - len(theirs)) <= 1, f"{file.name} has another length than BEANS' file"
        length = min(len(ours), len(theirs))
        if name in BY_TORCHAUDIO:
            # 0.25 of half the rate: every file of the miniatures holds these frequencies.
            low = slice(length // 8)
            difference = np.fft.rfft(ours[:length] - theirs[:length])[low]
            expected = np.fft.rfft(theirs[:length])[low]
            assert np.linalg.norm(difference) < 0.02 * np.linalg.norm(expected)
        elif name not in BY_SOX:
            np.testing.assert_allclose(ours[:length], theirs[:length], atol=2 * STEP)
        if task.max_duration is not None:
            assert info.duration <= task.max_duration + 1e-3, "more is stored than is ever used"
    if name in ("cbi", "dogs", "dcase", "enabirds", "hainan-gibbons", "rfcx"):
        assert rates == {task.facts.native_rate}, "BEANS resamples this task"


@pytest.mark.parametrize("name", ["enabirds", "hainan-gibbons", "esc50"])
def test_audio_left_in_place_sounds_as_the_flac_files_do(tmp_path: Path, name: str) -> None:
    origin, _ = make(name, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in origin.rglob("*")}
    prepare(name, tmp_path / "flac", source=origin)
    prepare(name, tmp_path / "place", source=origin, in_place=True)
    assert {path: path.stat().st_mtime_ns for path in origin.rglob("*")} == before, "the user's files were touched"
    assert not list((tmp_path / "place").rglob("*.flac")), "left in place, and copied too"
    flac, place = manifest(name, tmp_path / "flac"), manifest(name, tmp_path / "place")
    assert flac.split_hash == place.split_hash
    for split in SPLITS:
        heard = []
        for one in (flac, place):
            shards = plan(one.task, one.items[split], 16_000, 1)
            pairs = [zip(shard.clips, waveforms(shard, 16_000), strict=True) for shard in shards]
            heard.append({clip.item.id: sound.numpy() for shard in pairs for clip, sound in shard})
        assert heard[0].keys() == heard[1].keys()
        for item, sound in heard[0].items():
            # What BEANS resamples, the FLAC files went through two filters; they differ where a window begins and ends.
            step = 32 * STEP if name == "enabirds" else 4 * STEP
            np.testing.assert_allclose(sound, heard[1][item], atol=step, err_msg=f"{item} sounds different")


def test_a_chunk_is_found_in_its_recording(tmp_path: Path) -> None:
    origin, _ = make("enabirds", tmp_path)
    prepare("enabirds", tmp_path / "data", source=origin, in_place=True)
    item = next(item for item in manifest("enabirds", tmp_path / "data").items["valid"] if "@0-2" in item.id)
    minute = int(item.id.partition("@")[0].rpartition(".")[2])
    assert minute > 0 and item.window == (60.0 * minute, 60.0 * minute + 2)


KILL = """
import os, signal, sys
from pathlib import Path
from tasks.prepare import prepare
def report(what, done, total, unit):
    if "writing" in what and done >= 5:
        os.kill(os.getpid(), signal.SIGKILL)
prepare(sys.argv[1], Path(sys.argv[2]), report, source=Path(sys.argv[3]))
"""


def test_a_killed_preparation_goes_on_with_what_is_written(tmp_path: Path) -> None:
    origin, _ = make("esc50", tmp_path)
    data = tmp_path / "data"
    killed = subprocess.run([sys.executable, "-c", KILL, "esc50", str(data), str(origin)], check=False)
    assert killed.returncode == -signal.SIGKILL, "it ended before it was killed"
    task = load_task("esc50", data=data)
    assert why_not_prepared(task) == "preparation was interrupted: run `beans tasks prepare esc50`"
    written = {path.name: path.stat().st_mtime_ns for path in (data / ".esc50.partial" / "audio").glob("[!.]*.flac")}
    assert 5 <= len(written) < len(list(origin.rglob("*.wav")))
    steps: list[float] = []
    prepare("esc50", data, lambda what, done, total, unit: steps.append(done), source=origin)
    assert steps[0] == len(written), "what was written is written again"
    after = {path.name: path.stat().st_mtime_ns for path in (data / "esc50" / "audio").iterdir()}
    assert {name: after[name] for name in written} == written
    assert not [name for name in after if not name.endswith(".flac") or name.startswith(".")], (
        "a killed run's leftovers"
    )
    prepare("esc50", tmp_path / "whole", source=origin)
    for file in (tmp_path / "whole" / "esc50").rglob("*.*"):
        if file.is_file() and file.suffix != "":
            assert (data / file.relative_to(tmp_path / "whole")).read_bytes() == file.read_bytes()
    assert {entry.name for entry in data.iterdir()} == {"esc50", ".esc50.lock"}


def test_a_half_written_flac_file_is_never_taken_for_whole(tmp_path: Path) -> None:
    origin, _ = make("esc50", tmp_path)
    data = tmp_path / "data"
    subprocess.run([sys.executable, "-c", KILL, "esc50", str(data), str(origin)], check=False)
    # Written under another name until it is whole: a file of the final name stands for itself.
    (data / ".esc50.partial" / "audio" / ".half.flac.123").write_bytes(b"fLaC")
    prepare("esc50", data, source=origin)
    assert not (data / "esc50" / "audio" / ".half.flac.123").exists()


def test_going_on_from_another_copy_starts_anew(tmp_path: Path) -> None:
    origin, checkout = make("esc50", tmp_path)
    data = tmp_path / "data"
    subprocess.run([sys.executable, "-c", KILL, "esc50", str(data), str(origin)], check=False)
    steps: list[float] = []
    prepare("esc50", data, lambda what, done, total, unit: steps.append(done), copy="beans", source=checkout)
    assert steps[0] == 0, "files of one copy were mixed with those of another"


def test_a_damaged_file_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    origin, _ = make("esc50", tmp_path)
    victim = sorted(origin.rglob("*.wav"))[7]
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        UserError, match=rf"{victim.name} is truncated .*: fetch these files again; all others are kept"
    ):
        prepare("esc50", tmp_path / "data", source=origin)
    assert not is_prepared(load_task("esc50", data=tmp_path / "data"))
    victim.write_bytes(whole)
    steps: list[float] = []
    prepare("esc50", tmp_path / "data", lambda what, done, total, unit: steps.append(done), source=origin)
    assert steps[0] == steps[-1] - 1, "more than the damaged file was written again"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_is_one_sentence_and_the_next_call_goes_on(tmp_path: Path) -> None:
    origin, _ = make("esc50", tmp_path)
    data = tmp_path / "data"
    data.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "none", str(data)], check=False)
    if mounted.returncode:
        pytest.skip("no disk can be mounted here")
    try:
        with pytest.raises(UserError, match=r"disk of .* is full: task esc50 takes .*which keeps what is done"):
            prepare("esc50", data, source=origin)
        subprocess.run(["mount", "-o", "remount,size=64m", str(data)], check=True)
        steps: list[float] = []
        prepare("esc50", data, lambda what, done, total, unit: steps.append(done), source=origin)
        assert steps[0] > 0, "what fitted was thrown away"
        assert is_prepared(load_task("esc50", data=data))
    finally:
        subprocess.run(["umount", str(data)], check=True)


def test_an_id_from_a_hostile_table_writes_nothing_elsewhere(tmp_path: Path) -> None:
    _, checkout = make("speech-commands", tmp_path)
    table = checkout / "data/speech_commands/train.csv"
    lines = table.read_text().splitlines()
    index, path, _ = lines[1].split(",")
    lines[1] = f"{index},{path},../../../../escaped"
    table.write_text("\n".join(lines))
    with pytest.raises(UserError, match="would be written outside"):
        prepare("speech-commands", tmp_path / "data", copy="beans", source=checkout)
    assert not list(tmp_path.rglob("escaped*"))


def test_the_user_is_told_beforehand_what_it_takes(tmp_path: Path) -> None:
    origin, _ = make("esc50", tmp_path)
    said: list[str] = []
    prepare("esc50", tmp_path / "data", source=origin, say=said.append)
    assert any("FLAC files take at most" in sentence and "free" in sentence for sentence in said), said


def test_how_it_was_prepared_is_remembered_and_can_be_changed(tmp_path: Path) -> None:
    origin, checkout = make("esc50", tmp_path)
    data = tmp_path / "data"
    task = load_task("esc50", data=data)
    assert prepare("esc50", data, source=origin)
    done = preparation(task)
    assert done is not None and done.words == "origin, 16-bit FLAC"
    assert prepare("esc50", data, copy="beans", source=checkout, in_place=True) is False, "prepared anew unasked"
    assert prepare("esc50", data, copy="beans", source=checkout, in_place=True, again=True)
    done = preparation(task)
    assert done is not None and done.words == "BEANS checkout, left in place"
    assert {entry.name for entry in data.iterdir()} == {"esc50", ".esc50.lock"}
    shutil.move(checkout, tmp_path / "elsewhere")
    assert f"its audio was left in {checkout}, which is not there now" in (why_not_prepared(task) or "")


def test_archives_of_the_users_own_are_extracted_and_cleared_away(tmp_path: Path) -> None:
    origin, _ = make("esc50", tmp_path)
    own = tmp_path / "own"
    own.mkdir()
    shutil.make_archive(str(own / "ESC-50-master"), "zip", origin)
    prepare("esc50", tmp_path / "data", source=own)
    assert {entry.name for entry in (tmp_path / "data").iterdir()} == {"esc50", ".esc50.lock"}
    assert [entry.name for entry in own.iterdir()] == ["ESC-50-master.zip"], "the user's directory was written into"
    # Left in place, the extracted audio is all there is, and stays.
    prepare("esc50", tmp_path / "data", source=own, in_place=True, again=True)
    paths = {item.path for item in manifest("esc50", tmp_path / "data").items["test"]}
    assert all(path.is_file() and (tmp_path / "data" / "esc50.source") in path.parents for path in paths)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"copy": "beans"}, "--from beans needs --source"),
        ({"copy": "huggingface", "in_place": True}, "inside tables: leave --in-place out"),
        ({"source": Path("nothing-here")}, "nothing-here"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(tmp_path: Path, options: dict[str, object], sentence: str) -> None:
    if options.get("copy") == "huggingface":
        _, checkout = make("esc50", tmp_path)
        parquet_copy.write("esc50", checkout, tmp_path / "parquet")
        options = {**options, "source": tmp_path / "parquet"}
    with pytest.raises(UserError, match=sentence):
        prepare("esc50", tmp_path / "data", **options)  # type: ignore[arg-type]


def test_a_generated_task_takes_no_copy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mini-calls is generated on this machine"):
        prepare("mini-calls", tmp_path, copy="beans", source=tmp_path)
