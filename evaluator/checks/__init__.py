"""The checks of ``beans check``, which find mistakes of a submission before the long run."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from evaluator.backbone import ready
from evaluator.checks.backbone import CHECKS
from evaluator.checks.check import Check
from evaluator.checks.subject import Subject
from evaluator.features.extraction import Extractor
from evaluator.guard.contained import place
from tasks.support.errors import UserError
from tasks.support.findings import Finding
from tasks.support.progress import Report, silent
from tasks.task import Task

if TYPE_CHECKING:
    from evaluator.submission import Submission


def run(
    submission: "Submission",
    *,
    short: bool,
    tasks: Sequence[Task],
    device: torch.device,
    report: Report = silent,
) -> list[Finding]:
    """Load a submission and check it.

    Args:
        submission: the submission, read from its file.
        short: run only the checks of the short form, on clips below a second.
        tasks: tasks whose frequency band is compared with the backbone's sample rate.
        device: the device of the backbone.
        report: receives the name of the current check.

    Returns:
        One finding per check; "fail" if the submission must be corrected. If it does not load, no other check runs.
    """
    report(f"{submission.name}: loading", 0, 1)
    start = time.perf_counter()
    try:
        model = ready(submission.load(), device)
    except Exception as error:
        return [Finding("loads", "fail", _explain(error))]
    seconds = time.perf_counter() - start
    loads = Finding("loads", "pass", f"in {seconds:.1f} s; parameters: {model.parameters:,}")
    report(f"{submission.name}: layers", 0, 1)
    try:
        extractor = Extractor.of(model, device)
    except Exception as error:
        return [loads, Finding("layers", "fail", _explain(error))]
    return [loads, *examine(extractor, short=short, tasks=tasks, report=report, name=submission.name)]


def examine(
    extractor: Extractor,
    *,
    short: bool,
    tasks: Sequence[Task] = (),
    report: Report = silent,
    name: str = "submission",
) -> list[Finding]:
    """Check a loaded backbone. ``Extractor.of`` has already checked that it returns what it declares.

    Arguments and result are those of ``run``. A check that raises an exception fails, and the other checks still run.
    """
    if not extractor.needs_audio:
        says = f"{len(extractor.model.backbone.layers)} layers computed elsewhere: there is no model to run"
        return [Finding("layers", "note", says)]
    subject = Subject(extractor, short, tasks)
    checks = [(name, check) for name, check in CHECKS.each() if isinstance(check, Check)]
    if short:
        checks = [(name, check) for name, check in checks if check.in_short_form]
    checks.sort(key=lambda pair: pair[1].order)
    findings = []
    for done, (key, check) in enumerate(checks):
        title = key.replace("-", " ")
        report(f"{name}: {title}", done, len(checks))
        try:
            findings.append(Finding(title, *check.run(subject)))
        except Exception as error:
            findings.append(Finding(title, "fail", _explain(error)))
    return findings


def require(extractor: Extractor, *, name: str, report: Report = silent) -> None:
    """Run the short form of the checks before an evaluation.

    Raises:
        UserError: a check failed; the message holds all failures.
    """
    findings = examine(extractor, short=True, report=report, name=name)
    wrong = [f"{finding.name}: {finding.says}" for finding in findings if finding.status == "fail"]
    if wrong:
        raise UserError(f"{len(wrong)} of {len(findings)} checks failed. {' '.join(wrong)}")


def _explain(error: BaseException) -> str:
    if isinstance(error, UserError):
        return str(error)
    text = " ".join(str(error).split())
    return f"Ended with {type(error).__name__}: {text} ({place(error)})."
