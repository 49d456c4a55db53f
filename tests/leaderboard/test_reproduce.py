"""What the page of a result says of how to make it again; the page itself runs, without a browser."""

import pytest
from factory import make_record
from streamlit.testing.v1 import AppTest

from leaderboard.records.reproduce import caveat, command

START = "beans submit model.toml --tasks bats --track ta"


def page_of_a_result(record: str) -> None:
    """What the page of a submission calls; run by Streamlit on its own."""
    from pathlib import Path

    from leaderboard.records.record import Record
    from leaderboard.records.result import Result
    from leaderboard.web.views import result

    read = Record.model_validate_json(record)
    result.show(Result.of(read), read, Path("nowhere"), None)


def shown(protocol: str, limit: int | None = None) -> tuple[str, list[str]]:
    """The command on the page, and every sentence about it."""
    record = make_record("model", "bats", protocol=protocol, limit=limit)
    page = AppTest.from_function(page_of_a_result, args=(record.model_dump_json(),), default_timeout=60).run()
    assert not page.exception
    line = page.code[0].value.splitlines()[-1]
    sentences = [caption.value.replace("\\", "") for caption in page.caption]
    notes = [sentence for sentence in sentences if "option" in sentence]
    assert (line, "".join(notes)) == (command(record), caveat(record))
    return line, notes


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ("train=low", "--low"),
        ("train=5-shot", "--shots 5"),
        ("seeds=2+train=5-shot-seed3", "--seeds 2 --shots 5 --shots-seed 3"),
        ("grid=1e-05,1e+06", "--lr 1e-05,1e+06"),
        ("grid=1e+06+precision=bf16", "--lr 1e+06 --precision bf16"),
    ],
)
def test_page_shows_a_command_that_repeats_the_protocol(settings: str, options: str) -> None:
    """Without its options the command gives another result, on another board."""
    assert shown(f"beans-probe/2+{settings}", limit=20) == (f"{START} {options} --limit 20", [])


@pytest.mark.parametrize(
    ("settings", "options", "missing"),
    [
        ("batch_size=8+epochs=3+seeds=1", " --seeds 1", "batch_size=8, epochs=3"),
        ("weight_decay=1e+16+patience=4+train=low", " --low", "weight_decay=1e+16, patience=4"),
        ("lr_low=1e-06+lr_high=2.0+bootstrap=200", "", "lr_low=1e-06, lr_high=2.0, bootstrap=200"),
        # With a grid, --trials changes nothing; and the command sorts its rates.
        ("trials=4+grid=0.001", " --lr 0.001", "trials=4"),
        ("grid=0.01,0.001", "", "grid=0.01,0.001"),
    ],
)
def test_page_names_the_settings_that_no_option_sets_and_no_others(settings: str, options: str, missing: str) -> None:
    line, notes = shown(f"beans-probe/2+{settings}")
    assert line == START + options
    assert notes == [f"No option of the command sets {missing}; change the protocol in the code."]


@pytest.mark.parametrize("protocol", ["beans-probe/3+trials=4", "beans-probe/2+colour=red", "beans-probe/2+seeds=two"])
def test_page_of_unknown_rules_says_that_they_are_unknown(protocol: str) -> None:
    """What an option meant in another version is not known here."""
    line, (note,) = shown(protocol)
    assert line == START
    assert note.startswith(f"This version of the suite does not know the rules of {protocol}, so")
