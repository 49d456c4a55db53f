"""Links from the board into a real MLflow, followed in the browser."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from factory import make_record
from playwright.sync_api import Browser, Page, expect

sys.path.insert(0, str(Path(__file__).parents[1] / "tracking"))

from mlflow_server import Server
from ports import free_port

from leaderboard.database.store import Store
from leaderboard.records.record import Tracking

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# How the evaluator reaches MLflow, which no browser can.
INSIDE = "http://mlflow.internal:5000"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = Server(tmp_path_factory.mktemp("mlflow"), free_port())
    found.start()
    yield found
    found.stop()


@pytest.fixture
def mlflow_page(browser: Browser) -> Iterator[Page]:
    """MLflow's own pages may ask whom they like."""
    context = browser.new_context(viewport={"width": 1360, "height": 1000})
    yield context.new_page()
    context.close()


def test_runs_are_found_and_compared_under_the_public_address(
    server: Server,
    start: Callable[..., str],
    page: Page,
    mlflow_page: Page,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Behind TLS MLflow is neither at the address that the evaluator uses nor at the board's host and a port."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=server.uri)
    experiment = client.create_experiment("beans-probe/2")
    url = f"sqlite:///{tmp_path / 'beans.db'}"
    store = Store(url)
    names: dict[str, list[str]] = {}
    ids: dict[str, list[str]] = {}
    for name in ("aves", "hubert"):
        for task, metric in (("mini-calls", "accuracy"), ("mini-soundscape", "map")):
            run = client.create_run(experiment, run_name=f"{name} {task}")
            client.log_metric(run.info.run_id, "test", 0.5)
            client.set_terminated(run.info.run_id)
            names.setdefault(name, []).append(f"{name} {task}")
            ids.setdefault(name, []).append(run.info.run_id)
            tracking = Tracking(uri=INSIDE, experiment_id=experiment, run_id=run.info.run_id)
            store.publish(
                make_record(name, task, metric=metric), tracking if (name, task) != ("aves", "mini-calls") else None
            )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", INSIDE)
    monkeypatch.setenv("BEANS_MLFLOW_URL", server.uri)
    # The address that is named goes before the port rule.
    monkeypatch.setenv("BEANS_MLFLOW_PORT", "1")
    page.goto(f"{start(url)}/?with=aves&with=hubert")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(2, timeout=30_000)

    def follow(address: str | None) -> None:
        assert address is not None and address.startswith(server.uri)
        # As in a tab of its own: MLflow's page keeps its runs where only the part after # changes.
        mlflow_page.goto("about:blank")
        mlflow_page.goto(address)

    follow(rows.filter(has_text="aves").get_by_role("link", name="run").get_attribute("href"))
    expect(mlflow_page.get_by_text("aves mini-soundscape").first).to_be_visible(timeout=60_000)
    both = rows.filter(has_text="hubert").get_by_role("link", name="2 runs").get_attribute("href") or ""
    choice = page.get_by_test_id("stLinkButton").locator("a").get_attribute("href") or ""
    assert both.partition("?")[0] == choice.partition("?")[0], "runs of a row are compared where those chosen are"
    assert sorted(json.loads(parse_qs(both.partition("?")[2])["runs"][0])) == sorted(ids["hubert"])
    follow(choice)
    expect(mlflow_page.get_by_text("Comparing 3 Runs").first).to_be_visible(timeout=60_000)
    for name in ("aves mini-soundscape", *names["hubert"]):
        expect(mlflow_page.get_by_text(name).first).to_be_visible(timeout=60_000)
