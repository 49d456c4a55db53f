"""The benchmark of the extraction itself, at a size that says nothing about speed."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TINY = "--model hubert-small --clips 8 --shortest 0.2 --longest 0.5 --repetitions 2 --device cpu"


def test_the_benchmark_compares_the_whole_with_the_bare_passes_over_the_same_audio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The benchmarks are no installed package.
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import extraction

    path = tmp_path / "extraction.json"
    monkeypatch.setattr(sys, "argv", ["benchmarks.extraction", *TINY.split(), "--json", str(path)])
    code = extraction.main()
    content = json.loads(path.read_text())
    assert {"cpu", "threads", "torch", "command"} <= set(content["machine"])
    # Two files of each of 0.2, 0.3, 0.4 and 0.5 s: the first and third pair are heard together, in the train split, the
    # others apart, in the valid and the test split.
    assert content["audio_seconds"] == pytest.approx(2.8, abs=0.01)
    assert content["passes"] == 6
    bare = content["ways"]["bare"]
    assert set(content["ways"]) == {"bare", "ta", "ta+twa"} and bare["wall_ratio"] == 1
    for way, times in content["ways"].items():
        assert len(times["wall"]) == len(times["processor"]) == 2 and min(times["wall"]) > 0
        middle = [sum(one["wall"]) / 2 for one in (times, bare)]
        assert times["wall_ratio"] == pytest.approx(middle[0] / middle[1]), f"{way}: the ratio is of something else"
    slow = [way for way, times in content["ways"].items() if times["wall_ratio"] > 1.15]
    assert code == (1 if slow else 0), "the command does not say whether the limit is kept"
    errors = capsys.readouterr().err
    assert all(way in errors for way in slow)
    for parts in content["phases"].values():
        assert parts["decode"] > 0 and parts["store"] > 0 and parts["plan"] > 0
    assert content["decoded_per_core"] > 1 and min(content["decoded"].values()) > 1
    for speed, cores in content["cores_hidden"].items():
        assert (cores - 1) * content["decoded_per_core"] < int(speed) <= cores * content["decoded_per_core"]
