"""The commands and environments of docker-compose.yml, run for real, from the evaluator to the board."""

import json
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import psycopg
import pytest
from builders import write_clips_task, write_submission
from compose import Machine, example, postgres_programs
from mlflow import MlflowClient

from leaderboard.records.record import Tracking
from leaderboard.web import text

pytestmark = pytest.mark.slow


def connect(machine: Machine, role: str, database: str, password: str | None = None) -> psycopg.Connection:
    environment = machine.environment("postgres")
    known = environment["POSTGRES_PASSWORD" if role == "postgres" else f"{role.upper()}_DB_PASSWORD"]
    host, port = "127.0.0.1", machine.ports["postgres"]
    return psycopg.connect(host=host, port=port, user=role, dbname=database, password=password or known)


@pytest.fixture(scope="session")
def submitted(services: Machine) -> dict[str, object]:
    """A result, made as `docker compose run --rm evaluator submit ...` makes it."""
    own = services.place("/home/beans/project/own")
    write_clips_task(own / "task", per_label=5)
    write_submission(own / "floor.toml", 'loader = "statistics"\nsample_rate = 16000\nbands = 24')
    inside = "/home/beans/project/own"
    words = ("submit", f"{inside}/floor.toml", "--tasks", f"{inside}/task/tones.toml", "--trials", "1", "--seeds", "1")
    command = services.command("evaluator", *words, "--json")
    done = services.run("evaluator", *command)
    assert done.returncode == 0, done.stderr
    # The task is small, which is no fault of the services.
    warnings = [
        line for line in done.stderr.splitlines() if "Warning" in line and "fewer than 30 recordings" not in line
    ]
    assert not warnings, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_database_is_healthy_only_once_it_listens(database: list[bool]) -> None:
    assert database == [False, True], "services would start while the databases are still being made"


def test_each_service_reaches_its_own_database_alone(machine: Machine, database: list[bool]) -> None:
    for role in ("beans", "mlflow", "optuna"):
        with connect(machine, role, role) as own:
            own.execute("CREATE TABLE probe (id int)")
            own.execute("DROP TABLE probe")
        for other in {"beans", "mlflow", "optuna"} - {role}:
            with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
                connect(machine, role, other)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            connect(machine, role, role, password="wrong")
        with connect(machine, "postgres", "postgres") as admin:
            rights = admin.execute(
                "SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = %s", [role]
            ).fetchone()
        assert rights == (False, False, False)


def test_pages_answer(services: Machine) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{services.ports['leaderboard']}/", timeout=10) as page:
        assert page.status == 200 and b"streamlit" in page.read().lower()


def test_mlflow_answers_the_names_it_is_given_and_no_other(services: Machine) -> None:
    address = f"http://127.0.0.1:{services.ports['mlflow']}/api/2.0/mlflow/experiments/search?max_results=1"

    def status(host: str) -> int:
        request = urllib.request.Request(address, headers={"Host": host})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    # What a browser sends by .env.example, what the evaluator sends, and what a page of somebody else would send.
    assert status("localhost:5000") == 200
    assert status(f"127.0.0.1:{services.ports['mlflow']}") == 200
    assert status("evil.example.org") == 403


def test_result_reaches_every_database(services: Machine, submitted: dict[str, object]) -> None:
    record = Path(str(submitted["record"]))
    assert record.is_relative_to(services.place("/home/beans/.beans")), "the record is lost with the container"
    with connect(services, "beans", "beans") as board:
        assert board.execute("SELECT submission, task, run_id FROM results").fetchall() == [
            ("floor", "tones", submitted["mlflow_run_id"])
        ]
    with connect(services, "optuna", "optuna") as search:
        (studies,) = search.execute("SELECT count(*) FROM studies").fetchone() or (0,)
    assert studies == 1
    with connect(services, "mlflow", "mlflow") as tracking:
        statuses = tracking.execute("SELECT status FROM runs WHERE run_uuid = %s", [submitted["mlflow_run_id"]])
        assert statuses.fetchall() == [("FINISHED",)]


def test_files_of_a_run_lie_in_the_volume_and_come_back(
    services: Machine, submitted: dict[str, object], tmp_path: Path
) -> None:
    volume = services.place("/home/beans/artifacts")
    kept = list(volume.rglob(Path(str(submitted["record"])).name))
    assert len(kept) == 1, "files went to a place that no volume keeps"
    client = MlflowClient(tracking_uri=f"http://127.0.0.1:{services.ports['mlflow']}")
    fetched = client.download_artifacts(str(submitted["mlflow_run_id"]), "record", str(tmp_path))
    assert (Path(fetched) / kept[0].name).read_bytes() == Path(str(submitted["record"])).read_bytes()


def test_board_shows_the_result_and_links_its_run_where_browsers_find_it(
    services: Machine, submitted: dict[str, object]
) -> None:
    shown = services.run("leaderboard", "beans", "leaderboard", "show", "--json")
    assert shown.returncode == 0, shown.stderr
    rows = [row["submission"] for board in json.loads(shown.stdout) for row in board["rows"]]
    assert rows == ["floor"]
    environment = services.environment("leaderboard")
    with connect(services, "beans", "beans") as board:
        (address,) = board.execute("SELECT tracking_uri FROM results").fetchone() or ("",)
    assert address == environment["MLFLOW_TRACKING_URI"], "the link would lead to a name that only containers know"
    run = Tracking(uri=address, experiment_id="1", run_id=str(submitted["mlflow_run_id"]))
    shown_at = {"local_uri": environment["MLFLOW_TRACKING_URI"], "local_server": environment["BEANS_MLFLOW_URL"]}
    assert text.run_link(run, **shown_at) == f"{example()['MLFLOW_URL']}/#/experiments/1/runs/{run.run_id}"


def test_lost_database_comes_back_from_a_dump_or_from_the_records(
    services: Machine, submitted: dict[str, object], tmp_path: Path
) -> None:
    """docs/deployment.md, backup: the commands given there, without `docker compose exec`."""
    programs = postgres_programs()
    assert programs is not None
    environment = {"PGPASSWORD": services.environment("postgres")["POSTGRES_PASSWORD"], "PATH": "/usr/bin:/bin"}
    server = ("--host", "127.0.0.1", "--port", str(services.ports["postgres"]), "--username", "postgres")

    def call(program: str, *arguments: str) -> None:
        done = subprocess.run(
            [programs / program, *server, *arguments], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def shown() -> list[str]:
        done = services.run("leaderboard", "beans", "leaderboard", "show", "--json")
        return [row["submission"] for board in json.loads(done.stdout) for row in board["rows"]]

    call("pg_dump", "--format", "custom", "--file", str(tmp_path / "beans.dump"), "beans")
    with connect(services, "beans", "beans") as board:
        board.execute("DROP TABLE results")
    call("pg_restore", "--clean", "--if-exists", "--exit-on-error", "--dbname", "beans", str(tmp_path / "beans.dump"))
    assert shown() == ["floor"]
    with connect(services, "beans", "beans") as board:
        board.execute("DROP TABLE results, documents, failures, profiles, alembic_version")
    done = services.run("leaderboard", "beans", "leaderboard", "rebuild")
    assert (done.returncode, done.stdout.strip()) == (0, "The board holds 1 record."), done.stderr
    assert shown() == ["floor"]
