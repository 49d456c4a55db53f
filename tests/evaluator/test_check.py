"""`beans check`: every way of being wrong is found by the check that is about it, and good models pass."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import Run, write_submission

from evaluator.backbone import ready
from evaluator.checks import Finding, require, run
from evaluator.checks.backbone import CHECKS
from evaluator.checks.backbone.sample_rate import sample_rate
from evaluator.features.extraction import Extractor
from evaluator.submission import Submission
from tasks.support.errors import UserError
from tasks.task import Facts, Task

CPU = torch.device("cpu")
ALL = [
    "loads", "layers", "deterministic", "alone as in a batch", "finite", "sounds differ", "layers differ",
    "frames change", "lengths", "frozen", "sample rate",
]  # fmt: skip


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., dict[str, Finding]]:
    def findings(target: str, *, short: bool = False) -> dict[str, Finding]:
        path = write_submission(tmp_path / "model.toml", f'loader = "python"\ntarget = "broken_models:{target}"')
        found = run(Submission.read(path), short=short, tasks=(), device=CPU)
        assert len({finding.name for finding in found}) == len(found)
        return {finding.name: finding for finding in found}

    return findings


def failed(findings: dict[str, Finding]) -> set[str]:
    return {name for name, finding in findings.items() if finding.status == "fail"}


@pytest.mark.parametrize(
    ("target", "checks", "said"),
    [
        ("Dropout", {"deterministic"}, r"differ by \d.*layer 0 \(conv\)|differ by \d.*layer 1 \(pooled\)"),
        ("Noisy", {"deterministic"}, "random numbers"),
        ("PaddingLeak", {"alone as in a batch"}, "padding leaks.*exact_masking"),
        ("LeakAtTheEnd", {"alone as in a batch"}, "padding leaks.*exact_masking"),
        ("normed_over_time_but_exact", {"alone as in a batch"}, r"padding leaks.*exact_masking"),
        ("WrongFrames", {"layers"}, "48 for 0.50 s, 60 for 0.87 s"),
        ("NaNOnSilence", {"finite"}, r"silence.*not finite in layer 0 \(conv\)"),
        ("Deaf", {"sounds differ"}, r"noise and other noise have the same features in layer 0 \(conv\) and 1 more"),
        ("DeadLayer", {"sounds differ"}, r"Every channel has the same value.*layer 1 \(pooled\)"),
        ("SameLayerTwice", {"layers differ"}, r"layer 0 \(before\) and layer 1 \(after\)"),
        ("Drifting", {"deterministic", "frozen"}, "conv.weight"),
        ("Counting", {"frozen"}, "encode changes passes"),
        ("GradientOn", {"frozen"}, r"conv.weight \(and 3 more\) requires a gradient"),
        ("NeedsFifth", {"lengths"}, r"0.1 s: .*min_samples"),
        ("TwentySecondsAtMost", {"lengths"}, "30 s: .*IndexError: position 2000 is out of range"),
        ("StandsStill", {"frames change"}, "No layer's frames change"),
        ("BatchNormInTraining", {"alone as in a batch", "frozen"}, "norm is in training mode.*norm.running_mean"),
        ("StubbornBatchNorm", {"alone as in a batch", "frozen"}, "norm is in training mode.*norm.running_mean"),
        ("Wrapper", {"frozen"}, "Wrapper.model holds a torch module"),
        ("ListOfModules", {"frozen"}, "ListOfModules.blocks holds a torch module"),
        ("HidesItsState", {"frozen"}, "KeyError"),
    ],
)  # fmt: skip
def test_a_broken_model_fails_for_its_own_reason_and_for_no_other(
    check: Callable[..., dict[str, Finding]], target: str, checks: set[str], said: str
) -> None:
    findings = check(target)
    assert list(findings) == ALL, "a check that fails must not take another one with it"
    assert failed(findings) == checks, [f"{name}: {finding.says}" for name, finding in findings.items()]
    says = " ".join(findings[name].says for name in sorted(checks))
    assert re.search(said, says), says


@pytest.mark.parametrize(
    ("target", "said"),
    [("LayerTooMany", "declares 3 layers but encode returned 2"), ("WrongWidth", r"Layer 0 \(conv\).*width 17")],
)
def test_layers_that_are_not_the_declared_ones_end_the_check(
    check: Callable[..., dict[str, Finding]], target: str, said: str
) -> None:
    findings = check(target)
    assert failed(findings) == {"layers"} and re.search(said, findings["layers"].says)


def test_a_model_that_does_not_load_ends_the_check(check: Callable[..., dict[str, Finding]]) -> None:
    for target in ("nothing_of_the_kind", "fails_to_load"):
        findings = check(target)
        assert list(findings) == ["loads"] and failed(findings) == {"loads"}
    assert "weights.bin not found" in findings["loads"].says


def test_where_two_passes_differ_batches_are_not_blamed(check: Callable[..., dict[str, Finding]]) -> None:
    assert check("Dropout")["alone as in a batch"].status == "note"


@pytest.mark.parametrize("target", ["Good", "NeedsFifthAndSaysSo", "Borrowing", "Huge", "Tiny"])
def test_a_good_model_of_unequal_layers_passes(check: Callable[..., dict[str, Finding]], target: str) -> None:
    findings = check(target)
    assert list(findings) == ALL
    statuses = {name: finding.status for name, finding in findings.items() if name != "sample rate"}
    assert set(statuses.values()) == {"pass"}, findings
    # A stride of 320 samples at 32 kHz, and half as many frames.
    assert "layer 0 of 16 channels, a frame about every 10 ms" in findings["layers"].says
    assert "layer 1 of 8 channels, a frame about every 20 ms" in findings["layers"].says
    assert "exact_masking" in findings["alone as in a batch"].says


@pytest.mark.parametrize(
    ("target", "name", "said"),
    [
        ("HearsTenSeconds", "lengths", "only a part"),
    ],
)
def test_what_is_worth_knowing_is_noted_and_no_failure(
    check: Callable[..., dict[str, Finding]], target: str, name: str, said: str
) -> None:
    findings = check(target)
    assert failed(findings) == set(), findings
    assert findings[name].status == "note" and said in findings[name].says


@pytest.mark.parametrize("kind", ["group", "layer", "statistics"])
def test_the_suites_own_backbones_pass(
    tmp_path: Path, checkpoints: dict[str, Path], statistics: Path, kind: str
) -> None:
    path = statistics
    if kind != "statistics":
        path = write_submission(tmp_path / "hf.toml", f'loader = "huggingface"\nmodel = "{checkpoints[kind]}"')
    findings = {finding.name: finding for finding in run(Submission.read(path), short=False, tasks=(), device=CPU)}
    assert list(findings) == ALL and failed(findings) == set(), findings
    shared = {"group": "equal length", "layer": "unequal length", "statistics": "equal length"}[kind]
    assert f"clips of {shared} share a batch" in findings["alone as in a batch"].says
    if kind != "statistics":
        # 320 samples at 16 kHz, as published.
        assert "layers 0 to 3 of 32 channels, a frame about every 20 ms" in findings["layers"].says


def test_embeddings_that_were_computed_elsewhere_have_nothing_to_run(tmp_path: Path) -> None:
    (tmp_path / "embeddings").mkdir()
    np.savez(tmp_path / "embeddings/tones.npz", ids=np.array(["a", "b"]), last=np.eye(2, 3, dtype=np.float32))
    path = write_submission(tmp_path / "e.toml", 'loader = "features"\ndirectory = "embeddings"\nsample_rate = 16000')
    for short in (True, False):
        findings = run(Submission.read(path), short=short, tasks=(), device=CPU)
        assert [(finding.name, finding.status) for finding in findings] == [("loads", "pass"), ("layers", "note")]
        assert "computed elsewhere" in findings[1].says


@pytest.mark.parametrize(
    ("target", "checks"),
    [
        ("Good", set()),
        ("Dropout", {"deterministic"}),
        ("PaddingLeak", {"alone as in a batch"}),
        ("BatchNormInTraining", {"alone as in a batch"}),
        ("NaNOnSilence", {"finite"}),
    ],
)
def test_the_short_form_finds_what_would_spoil_a_run(
    check: Callable[..., dict[str, Finding]], tmp_path: Path, target: str, checks: set[str]
) -> None:
    findings = check(target, short=True)
    assert list(findings) == ALL[:5] and failed(findings) == checks
    extractor = Extractor.of(ready(Submission.read(tmp_path / "model.toml").load()), CPU, "bf16")
    if not checks:
        require(extractor, name="model")
        return
    with pytest.raises(UserError, match=f"checks failed\\. .*{next(iter(checks))}"):
        require(extractor, name="model")


def test_the_share_of_each_tasks_band_that_a_rate_loses() -> None:
    def task(name: str, native: int | None, group: str = "core") -> Task:
        return Task(
            name=name, kind="classification", metric="accuracy", group=group, clips=Path("clips.csv"),
            facts=Facts(native_rate=native),
        )  # fmt: skip

    tasks = [task("bats", 250_000), task("cbi", 48_000), task("rfcx", 16_000), task("unknown", None),
             task("mini", 44_100, "builtin")]  # fmt: skip
    status, says = sample_rate(16_000, tasks)
    # Of 125 kHz a rate of 16 kHz hears 8: 6.4 %. Of 24 kHz it hears a third.
    assert (status, says) == (
        "note",
        "16000 Hz covers up to 8 kHz; lost of the recordings' band: bats 94 %, cbi 67 %; nothing lost: rfcx",
    )
    assert sample_rate(16_000, [])[1] == "16000 Hz covers up to 8 kHz"


def test_the_command_says_what_is_wrong_and_ends_with_2(beans: Run, tmp_path: Path) -> None:
    good = write_submission(tmp_path / "good.toml", 'loader = "python"\ntarget = "broken_models:Good"')
    code, out, err = beans("check", good)
    assert code == 0 and "No check failed" in out, out + err
    assert all(name in out for name in ALL)
    assert "frozen" in err, "somebody who waits sees what is under way"
    bad = write_submission(tmp_path / "bad.toml", 'loader = "python"\ntarget = "broken_models:NaNOnSilence"')
    code, out, _ = beans("check", bad)
    assert code == 2 and "1 of 11 checks failed" in out and "silence" in out


def test_the_command_answers_scripts_in_json(beans: Run, tmp_path: Path) -> None:
    bad = write_submission(tmp_path / "bad.toml", 'loader = "python"\ntarget = "broken_models:PaddingLeak"')
    code, out, _ = beans("check", bad, "--json", "--device", "cpu")
    answer = json.loads(out)
    assert code == 2 and answer["submission"] == "bad" and answer["passed"] is False
    assert [finding["name"] for finding in answer["findings"]] == ALL
    assert {f["name"] for f in answer["findings"] if f["status"] == "fail"} == {"alone as in a batch"}


def test_the_commands_own_mistakes_are_one_sentence(beans: Run, tmp_path: Path, statistics: Path) -> None:
    code, _, err = beans("check", tmp_path / "missing.toml")
    assert code == 2 and "missing.toml" in err and "Traceback" not in err
    code, _, err = beans("check", statistics, "--device", "tpu")
    assert code == 2 and "'--device': 'tpu' is not one of 'auto', 'cpu', 'cuda'" in err
    code, out, _ = beans("check", "--help")
    assert code == 0 and "Example: beans check" in out


def test_the_guide_lists_every_check_with_what_the_check_itself_says() -> None:
    guide = (Path(__file__).parents[2] / "docs/submitting.md").read_text(encoding="utf-8")
    table = guide.partition("| check | fails when |\n|---|---|\n")[2].partition("\n\n")[0]
    rows = [tuple(line.strip("| ").split(" | ")) for line in table.splitlines()]
    # Loading comes before there is a backbone to check.
    assert rows[0][0] == "loads"
    checks = sorted(((name, CHECKS.get(name)) for name in CHECKS.names()), key=lambda pair: pair[1].order)
    assert rows[1:] == [(name.replace("-", " "), check.help) for name, check in checks]
    assert (
        f"runs the first {['', 'one', 'two', 'three', 'four', 'five'][1 + sum(c.in_short_form for _, c in checks)]}"
        in guide
    )
