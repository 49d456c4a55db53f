"""A user's own tasks on the command line: names with commas, warnings, long lists of bad files, escape codes."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from builders import Run, write_clips_task, write_windows_task

from evaluator import evaluate
from evaluator.cli import console
from tasks.support.errors import UserError


def test_tasks_may_have_commas_in_their_paths_and_the_option_may_be_repeated(
    beans: Run, statistics: Path, tmp_path: Path
) -> None:
    """A path with a comma was two tasks that do not exist."""
    one, two = write_clips_task(tmp_path / "Mays, A, 2019", "one"), write_clips_task(tmp_path / "two", "two")
    three, four = write_clips_task(tmp_path / "three", "three"), write_clips_task(tmp_path / "four,", "four")
    options = ("--tasks", f"{two},{one} , {three}", "--tasks", four)
    code, out, err = beans("submit", statistics, *options, "--dry-run", "--json")
    assert code == 0, err
    assert [json.loads(line)["task"] for line in out.splitlines()] == ["two", "one", "three", "four"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--tasks", "x" * 300 + ".toml"), "cannot be reached (File name too long)"),
        (("--tasks", ""), "--tasks names no task"),
        (("--tasks", " , "), "--tasks names no task"),
        (("--tasks", "{task}", "--data-dir", "x" * 300), "File name too long"),
        (("--tasks", "a\x1b[31m.toml"), r"Task file a\u001b[31m.toml does not exist"),
    ],
)
def test_names_that_the_system_does_not_allow_are_one_sentence(
    beans: Run, statistics: Path, clips_task: Path, arguments: tuple[str, ...], said: str
) -> None:
    code, _, err = beans("submit", statistics, *(word.replace("{task}", str(clips_task)) for word in arguments))
    assert code == 2 and said in err
    assert err.count("Error") == 1 and "Traceback" not in err


def test_probable_mistakes_are_warned_of_before_anything_is_computed(
    beans: Run, statistics: Path, windows_task: Path, tmp_path: Path
) -> None:
    lines = windows_task.parent / "test.jsonl"
    lines.write_text(lines.read_text().replace('"low"', '"high"').replace('"ed": ', '"ed": 1'))
    code, _, err = beans("submit", statistics, "--tasks", windows_task, "--dry-run")
    assert code == 0
    assert "Warning: Task scape: 8 annotations end after their recordings (the first: " in err
    assert "Warning: Task scape: the test split has nothing with the label 'low': it counts with an average" in err
    with pytest.warns(UserWarning, match="Task scape: the test split has nothing"), pytest.raises(UserError):
        evaluate(statistics, windows_task, home=tmp_path, device="tpu")


def test_sixty_bad_files_are_counted_and_a_command_names_them_all(
    beans: Run, statistics: Path, clips_task: Path
) -> None:
    for file in (clips_task.parent / "audio").iterdir():
        file.write_bytes(b"no audio at all")
    code, _, err = beans("submit", statistics, "--tasks", clips_task, "--dry-run")
    assert code == 2 and f"`beans tasks verify {clips_task} --json` names them all" in err
    code, out, _ = beans("tasks", "verify", clips_task, "--json")
    [readable] = [finding for finding in json.loads(out)["tones"] if finding["name"] == "readable"]
    assert code == 2 and len({file["path"] for file in readable["files"]}) == 60
    assert all("not audio" in file["reason"] and ", line " in file["place"] for file in readable["files"])


def test_a_task_that_cannot_be_read_does_not_cost_the_findings_of_the_others(
    beans: Run, clips_task: Path, tmp_path: Path
) -> None:
    """Decoding a large task takes hours, and its findings were lost when the next task had a mistake."""
    other = write_clips_task(tmp_path / "other", per_label=5)
    (other.parent / "clips.csv").write_bytes("path,label,split".encode("utf-16"))
    code, out, err = beans("tasks", "verify", clips_task, "absent.toml", other, "--json")
    found = json.loads(out)
    assert code == 2 and list(found) == ["tones", "absent.toml", str(other)]
    assert {"readable", "split hash"} <= {finding["name"] for finding in found["tones"]}
    assert [finding["status"] for finding in found["absent.toml"]] == ["fail"] and "does not exist" in err
    assert "is UTF-16 text" in found[str(other)][0]["says"]


def test_a_crop_of_less_than_a_sample_is_refused(beans: Run, statistics: Path, clips_task: Path) -> None:
    """It was a traceback, or a score of empty clips."""
    clips_task.write_text(clips_task.read_text() + "max_duration = 1e-9\n")
    code, _, err = beans("submit", statistics, "--tasks", clips_task, "--dry-run")
    assert code == 2 and "max_duration is 1e-09 s, which is shorter than one sample" in err
    windows = write_windows_task(clips_task.parent / "scapes")
    windows.write_text(windows.read_text().replace("window_width = 2", "window_width = 1e-5"))
    code, _, err = beans("submit", statistics, "--tasks", windows, "--dry-run")
    assert code == 2 and "window_width is 1e-05 s, which is shorter than one sample" in err


def test_a_recording_that_ends_before_its_windows_is_named_once_with_its_line(
    beans: Run, statistics: Path, windows_task: Path
) -> None:
    soundfile.write(windows_task.parent / "audio/train_1.wav", np.zeros(16_000), 16_000)
    code, _, err = beans("submit", statistics, "--tasks", windows_task, "--dry-run")
    assert code == 2 and "train_1.wav is 1.0 s long but has 10 windows after its end, the first" in err
    assert f"(is its length in the manifest in seconds?) ({windows_task.parent / 'train.jsonl'}, line 2)" in err


HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m red \u202e back \ud800"


def test_no_command_sends_escape_codes_of_a_file_to_the_terminal(
    beans: Run, clips_task: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A description moved the cursor, changed the title of the window, or hid a part of the table."""
    description = "\\u001b]0;owned\\u0007\\u001b[2J\\u009b31m red \\u202e back"
    clips_task.write_text(clips_task.read_text() + f'[facts]\ndescription = "{description}"\n')
    code, out, _ = beans("tasks", "show", clips_task)
    assert code == 0 and "\\u001b]0;owned" in out and not {"\x1b", "\x9b", "\u202e"} & set(out)
    code, out, _ = beans("tasks", "show", clips_task, "--json")
    assert not {"\x1b", "\x9b", "\u202e"} & set(out)
    assert json.loads(out)["facts"]["description"] == HOSTILE[:-2], "JSON must keep what the file holds"

    console.complain(HOSTILE)
    console.warn(HOSTILE)
    console.say(HOSTILE)
    console.print_table(f"[red]{HOSTILE}", ["a"], [[HOSTILE + "\nsecond line"]])
    console.print_json({HOSTILE: [HOSTILE]})
    with console.progress() as report:
        report(HOSTILE, 0, 1, "")
    shown, errors = capfd.readouterr()
    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\ud800"} & set(shown + errors)
    assert "[red]" in shown and "second line" in shown
    assert errors.count("\\u001b[2J") == 3
