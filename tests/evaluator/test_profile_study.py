"""`beans study vram`: the lines that there are, the verdict by hand, and the whole command on small models."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluator.efficiency.curve import Point
from evaluator.studies.vram import measure as study
from evaluator.studies.vram.measure import Line, Measurements, Way
from evaluator.studies.vram.report import markdown, verdict
from tasks.support.errors import UserError

Run = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).resolve().parents[2]
GIB = 2**30


def measured(seconds: float, peak: float, weights: float = 0.25) -> Point:
    sizes = {"peak_bytes": int(peak * GIB), "weights_bytes": int(weights * GIB)}
    return {"seconds": seconds, "outcome": "measured", "detail": "", "inferred": False, **sizes}


def too_large(seconds: float) -> Point:
    return {"seconds": seconds, "outcome": "out of memory", "detail": "CUDA out of memory.", "inferred": False}


def a_study(aves: list[Point], biomamba: list[Point]) -> Measurements:
    lines = (
        Line(Way("AVES", "eager", "fp32"), tuple(aves)),
        Line(Way("AVES", "flash", "fp32", unavailable="flash attention needs half precision"), ()),
        Line(Way("BioMamba", "mamba_ssm", "fp32"), tuple(biomamba)),
    )
    return Measurements("cuda", "NVIDIA H200", "last", 139 * GIB, {"torch": "2.11.0"}, "2026-03-01T12:00+00:00", lines)


def test_verdict_says_where_the_claim_holds_and_where_it_stops() -> None:
    found = a_study(
        [measured(5, 1.0), measured(10, 2.0), measured(60, 10.0), measured(300, 100.0), too_large(600)],
        [
            measured(5, 1.1, 0.1),
            measured(10, 1.6, 0.1),
            measured(60, 6.0, 0.1),
            measured(300, 20, 0.1),
            measured(600, 39),
        ],
    )
    first, sentence = verdict(found)
    # Saved: -10 %, 20 %, 40 %, 80 %, and nothing to compare with at 600 s.
    assert "holds in 1 of 4 comparisons" in first and "host memory" not in first
    assert sentence == (
        "fp32, AVES with eager attention, BioMamba by mamba_ssm: 10 % more at 5 s, 80 % less at 300 s (without the "
        "weights 33 % more at 5 s, 80 % less at 300 s); it holds at 60 s; more is saved at 300 s; less is saved at "
        "10 s; BioMamba takes more than AVES at 5 s; AVES has no figure to compare with at 600 s."
    )
    text = markdown(found)
    assert "| AVES, eager, fp32 | 1.00 | 2.00 | 10.00 | 100.00 | > 139 |" in text
    assert "| AVES, eager, fp32 | 0.75 | 1.75 | 9.75 | 99.75 | > 139 |" in text, "weights apart"
    assert "| fp32: AVES eager, BioMamba mamba_ssm | -10 | 20 | 40 | 80 | – |" in text
    # At 60 s 5.9 of 9.75 GiB without weights.
    assert "| without weights | -33 | 14 | 39 | 80 | – |" in text
    assert "- AVES, flash, fp32: flash attention needs half precision" in text


@pytest.mark.parametrize(("saved", "holds"), [(0.29, 0), (0.31, 1), (0.49, 1), (0.51, 0)])
def test_about_forty_percent_is_thirty_to_fifty(saved: float, holds: int) -> None:
    found = a_study([measured(10, 10.0)], [measured(10, 10.0 * (1 - saved))])
    assert f"holds in {holds} of 1 comparisons" in verdict(found)[0]


def test_the_model_is_aves_itself() -> None:
    config = tomllib.loads((ROOT / "submissions" / "random-aves.toml").read_text())["submission"]["config"]
    assert config == study.AVES
    assert study.BIOMAMBA == {}, "its defaults have AVES's depth and width"


def test_every_kernel_has_a_line_or_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "find_spec", lambda name: None)
    bare = {way.label: way.unavailable for way in study.ways("cuda", ("fp32", "bf16"), "last")}
    assert len(bare) == 10
    assert {label for label, why in bare.items() if why} == {
        "AVES, flash, fp32",
        "BioMamba, mamba_ssm, fp32",
        "BioMamba, mamba_ssm, bf16",
    }
    monkeypatch.setattr(study, "find_spec", lambda name: object())
    full = {way.label for way in study.ways("cuda", ("fp32", "bf16"), "last") if way.unavailable}
    assert full == {"AVES, flash, fp32"}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both models with one block of 16, through the same commands."""
    convolutions = [[16, 10, 5], *[[16, 3, 2]] * 4, *[[16, 2, 2]] * 2]
    sizes = {"encoder_embed_dim": 16, "encoder_num_layers": 1, "encoder_num_heads": 2, "encoder_ff_interm_features": 32}
    monkeypatch.setattr(study, "AVES", {**study.AVES, "extractor_conv_layer_config": convolutions, **sizes})
    mamba = {"hidden_size": 16, "num_hidden_layers": 1, "head_dim": 8, "state_size": 4, "conv_dim": [16] * 7}
    monkeypatch.setattr(study, "BIOMAMBA", mamba)


@pytest.mark.slow
def test_without_a_gpu_host_memory_is_measured_and_called_that(small: None, beans: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--device", "cpu", "--seconds", "1", "--precision", "fp32", "--out", out]
    code, printed, errors = beans("study", "vram", *options)
    assert code == 0, errors
    assert "These are figures of host memory, and the claim is about VRAM." in printed
    assert {path.name for path in out.iterdir()} == {"host-memory.json", "host-memory.md", "host-memory.png"}
    assert (out / "host-memory.png").read_bytes().startswith(b"\x89PNG")
    tables = (out / "host-memory.md").read_text()
    assert "(host memory)" in tables and "mamba_ssm's kernels run only on GPUs" in tables
    content = json.loads((out / "host-memory.json").read_text())
    lines = {(line["model"], line["kernel"]): line["points"] for line in content["lines"]}
    assert {name for name, points in lines.items() if points} == {
        ("AVES", "eager"),
        ("AVES", "flash"),
        ("BioMamba", "transformers"),
    }
    for points in lines.values():
        assert all(point["outcome"] == "measured" and point["peak_bytes"] > 0 for point in points), points
    assert lines["AVES", "flash"][0]["attention"] == "sdpa"
    # Again, nothing is measured: the file is the same to the byte.
    before = (out / "host-memory.json").read_bytes()
    code, printed, _ = beans("study", "vram", "--device", "cpu", "--out", out, "--draw", "--json")
    assert code == 0 and json.loads(printed)["verdict"] == verdict(study.read(out / "host-memory.json"))
    assert (out / "host-memory.json").read_bytes() == before


def test_without_a_gpu_it_says_what_works_instead(beans: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, printed, errors = beans("study", "vram")
    assert code == 2 and printed == ""
    assert errors.startswith("Error: beans study vram needs a CUDA device") and errors.count("\n") == 1
    assert "--device cpu --seconds 1,5" in errors


def test_points_of_another_device_are_not_mixed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def here(question: Any, timeout: float) -> dict[str, Any]:
        return {"device": "NVIDIA A100", "available_bytes": 40 * GIB, "versions": {"torch": "2.11.0"}}

    path = tmp_path / "vram.json"
    study.write(path, a_study([measured(5, 1.0)], [measured(5, 0.6)]))
    monkeypatch.setattr(study, "ask", here)
    with pytest.raises(UserError, match=r"another device \(NVIDIA H200 and not NVIDIA A100\): choose another --out"):
        study.run(path, kind="cuda", lengths=(5,))


def test_a_file_that_is_no_study_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vram.json"
    path.write_text('{"lines": [{"model": "AVES"}]}')
    with pytest.raises(UserError, match="is not a study of memory"):
        study.read(path)
