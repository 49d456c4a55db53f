"""A recording of hours must not be in memory as a whole."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

RATE = 8_000
HOURS = 2
# A whole recording of this length takes 230 MB in single precision at its own rate, and twice that at 16 kHz.
MEASURE = """
import sys
from pathlib import Path
import numpy, soundfile, soxr, torch
import evaluator.features.cuts, tasks.sound, tasks.sound.stream, tasks.verify

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024

path = Path(sys.argv[1])
header = tasks.sound.read_header(path)
before = peak()
"""
VERIFY = """
stretch = tasks.verify._Stretch("night", "train", path, None)
assert tasks.verify._decode(stretch).sound
print(peak() - before)
"""
HEAR = """
from evaluator.features.cuts import Cut, load
(sound,) = load(path, header, [Cut.whole(header, None)], 1_000)
assert len(sound) == header.frames // 8
print(peak() - before)
"""


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Silence and a short tone: a small file."""
    path = tmp_path_factory.mktemp("night") / "night.flac"
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        file.write(0.5 * np.sin(np.arange(RATE)))
        for _ in range(HOURS * 60):
            file.write(np.zeros(60 * RATE))
    return path


@pytest.mark.parametrize(("code", "megabytes"), [(VERIFY, 80), (HEAR, 110)], ids=["verify", "resample"])
def test_a_recording_of_hours_is_decoded_in_blocks(night: Path, code: str, megabytes: int) -> None:
    """A night at 48 kHz took five gigabytes. What is resampled stays in memory: here 29 MB of 230."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE + code, str(night)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < megabytes
