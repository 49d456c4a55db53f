"""Profiles in the database and as files: the newest counts, memory of a GPU and of a host stay apart, none is lost."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from factory import make_record
from profile_factory import GIB, H200, make_profile, measured, profiles_of_a_board, too_large
from pydantic import ValidationError
from streamlit.testing.v1 import AppTest

from leaderboard.database import profiles
from leaderboard.database.standings import read_standings
from leaderboard.database.store import Store
from leaderboard.records.profile import (
    Point,
    Profile,
    current,
    merge,
    note_path,
    read_profile,
    spell,
    vram_at_10_seconds,
    write_profile,
)
from leaderboard.web.charts.efficiency import memory_curve, speed_curve
from tasks.support.errors import UserError

EARLY = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATE = EARLY + timedelta(days=1)


@pytest.fixture
def store(url: str) -> Store:
    return Store(url)


def test_what_was_published_is_read_back(store: Store) -> None:
    for profile in profiles_of_a_board():
        profiles.publish(store, profile)
    assert sorted(profiles.profiles(store), key=lambda profile: profile.id) == profiles_of_a_board()
    assert [profile.id[0] for profile in profiles.profiles(store, "aves")] == ["1", "3"]
    assert profiles.profiles(store, "nobody") == []


def test_a_profile_grows_and_an_older_state_of_it_does_not_come_back(store: Store) -> None:
    """Two machines share a database: the one that knows less must not undo the other."""
    grown = make_profile(points=(measured(10, GIB), measured(60, 2 * GIB)), created=LATE)
    profiles.publish(store, make_profile(created=EARLY))
    profiles.publish(store, grown)
    profiles.publish(store, make_profile(created=EARLY))
    assert profiles.profiles(store) == [grown]


def test_the_database_comes_back_from_the_files(store: Store, tmp_path: Path) -> None:
    directory = tmp_path / "profiles"
    for profile in profiles_of_a_board():
        path = write_profile(directory, profile)
        assert read_profile(path) == profile
        note_path(path).write_text("{}")
    profiles.publish(store, make_profile("gone", id="f" * 16))
    assert profiles.rebuild(store, directory) == 4
    assert {profile.submission for profile in profiles.profiles(store)} == {
        "aves",
        "random-biomamba",
        "random-hubert-small",
    }
    assert profiles.rebuild(store, tmp_path / "missing") == 0


def test_a_file_that_is_no_profile_leaves_the_database_as_it_was(store: Store, tmp_path: Path) -> None:
    profiles.publish(store, make_profile())
    write_profile(tmp_path, make_profile("other", id="e" * 16))
    (tmp_path / "zzz.json").write_text('{"schema_version": 1}')
    with pytest.raises(UserError, match=r"zzz\.json is not a profile of schema version 1 .*: move it out of the way"):
        profiles.rebuild(store, tmp_path)
    assert [profile.submission for profile in profiles.profiles(store)] == ["aves"]


def test_results_and_profiles_do_not_touch_each_other(store: Store, tmp_path: Path) -> None:
    profiles.publish(store, make_profile())
    (tmp_path / "records").mkdir()
    store.rebuild(tmp_path / "records")
    assert len(profiles.profiles(store)) == 1
    with store.transaction() as connection:
        columns = connection.execute(sa.text("SELECT device, kind, weights_sha256 FROM profiles")).one()
    assert tuple(columns) == (H200, "cuda", "a" * 64)


def test_the_newest_of_each_way_of_measuring_counts() -> None:
    older, newer = make_profile(created=EARLY, id="1" * 16), make_profile(created=LATE, id="2" * 16)
    others = [
        make_profile(id="3" * 16, precision="bf16"),
        make_profile(id="4" * 16, batch=8),
        make_profile(id="5" * 16, attention="eager"),
        make_profile(id="6" * 16, device="NVIDIA A100"),
        make_profile(id="7" * 16, weights_sha256="b" * 64),
        make_profile(id="8" * 16, kind="cpu"),
    ]
    found = current([newer, *others, older])
    assert {profile.id[0] for profile in found} == {"2", "3", "4", "5", "6", "7", "8"}


def test_the_boards_column_is_vram_of_one_clip_in_float32() -> None:
    of = ("aves", "a" * 64)
    assert vram_at_10_seconds([make_profile()]) == {of: (GIB, "", H200)}
    # Nothing else may stand in for it.
    assert vram_at_10_seconds([make_profile(kind="cpu", device="cpu (Example)")]) == {}, "host memory is no VRAM"
    assert vram_at_10_seconds([make_profile(precision="bf16")]) == {}
    assert vram_at_10_seconds([make_profile(batch=2)]) == {}
    assert vram_at_10_seconds([make_profile(points=(measured(5, GIB),))]) == {}
    # Of two devices the one measured last.
    later = make_profile(points=(measured(10, 3 * GIB),), created=LATE, id="2" * 16, device="NVIDIA A100")
    assert vram_at_10_seconds([later, make_profile(created=EARLY)]) == {of: (3 * GIB, "", "NVIDIA A100")}
    other = make_profile(points=(measured(10, 2 * GIB),), weights_sha256="b" * 64, id="9" * 16)
    assert set(vram_at_10_seconds([other, make_profile()])) == {of, ("aves", "b" * 64)}, "other weights, another row"


def test_a_profile_fills_the_boards_column(store: Store) -> None:
    """Results of a machine without a GPU have no memory; a profile made later has, and the board must show it."""
    record = make_record("aves", "mini-calls")
    weights = record.submission.weights_sha256
    store.publish(record)
    store.publish(make_record("hubert", "mini-calls"))

    def column() -> dict[str, tuple[int | None, str]]:
        (board,) = read_standings(store)
        return {row.submission: (row.vram_bytes, row.device) for row in board.rows}

    before = column()
    assert before["aves"][0] is None
    host = make_profile(kind="cpu", device="cpu (Example)", weights_sha256=weights, id="1" * 16)
    profiles.publish(store, host)
    profiles.publish(store, make_profile(weights_sha256="b" * 64, id="2" * 16))
    assert column() == before, "host memory or other weights' memory was shown"
    profiles.publish(store, make_profile(weights_sha256=weights))
    assert column() == {**before, "aves": (GIB, H200)}
    profiles.publish(store, make_profile(points=(too_large(10),), weights_sha256=weights, created=LATE))
    (board,) = read_standings(store)
    (row,) = (row for row in board.rows if row.submission == "aves")
    assert row.vram_bytes is None and "> 140.0 GiB at 10 s" in row.vram_reason


def test_what_did_not_fit_is_said_with_the_limit() -> None:
    profile = make_profile(points=(too_large(10),))
    assert vram_at_10_seconds([profile]) == {("aves", "a" * 64): (None, "> 140.0 GiB at 10 s (out of memory)", H200)}
    assert spell(make_profile(available_bytes=None), too_large(60)) == "at 60 s (out of memory)"
    assert spell(profile, measured(10, GIB)) == ""


def test_points_of_two_runs_are_one_curve() -> None:
    known = (measured(1, 10), measured(10, 100))
    assert merge(known, [measured(5, 50), measured(10, 101)]) == (measured(1, 10), measured(5, 50), measured(10, 101))
    assert make_profile(batch=4).throughput(measured(10, 1, latency=0.5)) == 80
    assert measured(10, GIB, weights=GIB // 4).activation_bytes == GIB - GIB // 4


@pytest.mark.parametrize(
    "points", [(measured(10, 1), measured(5, 1)), (measured(5, 1), measured(5, 2))], ids=["order", "twice"]
)
def test_a_profile_has_one_point_a_length(points: tuple[Point, ...]) -> None:
    with pytest.raises(ValidationError, match="one a clip length, the shortest first"):
        Profile.model_validate(make_profile().model_dump() | {"points": points})


def drawn(chart: Any) -> list[list[dict[str, Any]]]:
    """The values of each layer of a chart."""
    spec = chart.to_dict()
    # Altair lifts what all layers share to the chart itself.
    return [spec["datasets"][layer.get("data", spec.get("data"))["name"]] for layer in spec["layer"]]


def test_curves_hold_the_profiles_own_numbers() -> None:
    aves, mamba = profiles_of_a_board()[:2]
    shown = {"aves": aves, "random-biomamba": mamba}
    line, *_, crosses = drawn(memory_curve(shown))
    sizes = {(value["submission"], value["seconds"]): value["memory"] for value in line}
    assert len(sizes) == 7 + 9
    assert sizes["aves", 300] == pytest.approx((0.4 * 2**30 + 300**2 * 1.2e6) / 2**30)
    assert [(value["submission"], value["seconds"], value["memory"]) for value in crosses] == [
        ("aves", 600, 140),
        ("aves", 1000, 140),
    ]
    speeds = {(value["submission"], value["seconds"]): value["speed"] for value in drawn(speed_curve(shown))[0]}
    assert speeds["aves", 60] == pytest.approx(60 / (0.004 + 60**2 / 1e4))


@pytest.mark.parametrize("spread", [1, 4, 30])
def test_an_axis_has_numbers_wherever_the_values_lie(spread: float) -> None:
    """With one number on a logarithmic axis no value can be read off it."""
    for step in range(20):
        slow = 10 ** (step / 20)
        profile = make_profile(points=(measured(1, GIB, latency=slow), measured(10, GIB, latency=10 * slow / spread)))
        axis = speed_curve({"aves": profile}).to_dict()["layer"][0]["encoding"]["y"]
        low, high = axis["scale"]["domain"]
        ticks = axis["axis"]["values"]
        assert 2 <= len(ticks) <= 8 and all(low <= tick <= high for tick in ticks), ticks


def part_of_a_page(url: str, submission: str) -> None:
    """What the page of a submission calls; run by Streamlit on its own."""
    from leaderboard.database.store import Store
    from leaderboard.web.views.efficiency import section

    section(Store(url), submission)


def test_the_page_of_a_submission_shows_its_own_profiles_one_at_a_time(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'beans.db'}"
    for profile in profiles_of_a_board():
        profiles.publish(Store(url), profile)
    page = AppTest.from_function(part_of_a_page, args=(url, "aves"), default_timeout=30).run()
    assert not page.exception
    assert page.subheader[0].value == "Memory and speed"
    chosen = page.selectbox[0]
    assert [option.split(" · ")[2] for option in chosen.options] == ["fp32", "bf16"], "what the board shows is first"
    assert chosen.value == "1" * 16
    page = AppTest.from_function(part_of_a_page, args=(url, "nobody"), default_timeout=30).run()
    assert not page.exception
    assert "beans profile" in page.caption[0].value
