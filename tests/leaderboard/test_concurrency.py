"""Many processes at once and databases that are killed: no result is lost, and none is there twice."""

import multiprocessing
import signal
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from factory import make_record
from postgres_server import Server

from leaderboard.database.store import Store
from leaderboard.records.record import Record
from tasks.support.errors import UserError

PROCESSES, EACH = 8, 25
FIRST, LAST = 4, 12

# Publishes records of the names given, and stops in the middle of one: it is written and not yet committed.
PUBLISH = """
import sys
import sqlalchemy
from factory import make_record
from leaderboard.database.store import Store
url, stop, *names = sys.argv[1:]
current = None
def before_commit(connection):
    if current == stop:
        print("in the middle", flush=True)
        sys.stdin.readline()
sqlalchemy.event.listen(sqlalchemy.Engine, "commit", before_commit)
for current in names:
    Store(url).publish(make_record(current, n_layers=3, best_layer=1))
"""


def record(name: str) -> Record:
    return make_record(name, n_layers=3, best_layer=1)


def publish_many(url: str, who: int, together: Barrier) -> None:
    store = Store(url)
    together.wait(60)
    # All of them the same one first, when the tables are not made yet.
    for name in ["shared", *(f"model-{who}-{number}" for number in range(EACH))]:
        store.publish(record(name))


def command(url: str, stop: str, names: list[str]) -> list[str]:
    return [sys.executable, "-c", PUBLISH, url, stop, *names]


def stopped_in_the_middle(url: str, names: list[str], of: str) -> subprocess.Popen[str]:
    """A process that has written the record ``of`` and waits before it commits."""
    process = subprocess.Popen(
        command(url, of, names),
        cwd=Path(__file__).parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "in the middle\n", process.communicate()[1]
    return process


def published(url: str) -> list[str]:
    """Names on the board; whatever stands there stands there whole."""
    store = Store(url)
    results = store.results()
    assert [store.record(result.record_id) for result in results] == [record(result.submission) for result in results]
    return sorted(result.submission for result in results)


@pytest.fixture
def mortal(postgres_programs: Path) -> Iterator[Server]:
    """A server that may be killed."""
    server = Server(postgres_programs, durable=True)
    try:
        server.start()
        yield server
    finally:
        server.remove()


def test_eight_processes_publish_200_records_at_once(url: str) -> None:
    """A cluster finishes a night's work; the database was not even made before."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["leaderboard.database.store"])
    together = context.Barrier(PROCESSES)
    processes = [context.Process(target=publish_many, args=(url, who, together)) for who in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
    assert [process.exitcode for process in processes] == [0] * PROCESSES
    names = [f"model-{who}-{number}" for who in range(PROCESSES) for number in range(EACH)]
    assert sorted(result.submission for result in Store(url).results()) == sorted([*names, "shared"])


def test_postgresql_killed_in_the_middle_of_publishing_loses_nothing(mortal: Server) -> None:
    """What was published stands when it is back, half a record never does, and the same command does the rest."""
    url = mortal.database()
    names = [f"model-{number:02d}" for number in range(LAST)]
    process = stopped_in_the_middle(url, names, of=names[FIRST])
    mortal.kill()
    _, complaint = process.communicate("go on\n", timeout=60)
    assert process.returncode != 0
    assert "tasks.support.errors.UserError: Leaderboard database" in complaint, "the user reads what is down"
    with pytest.raises(UserError, match="cannot be used"):
        Store(url).results()

    mortal.start()
    assert published(url) == names[:FIRST]
    done = subprocess.run(
        command(url, "", names), cwd=Path(__file__).parent, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert published(url) == names


def test_process_killed_in_the_middle_of_publishing_leaves_the_database_whole(url: str) -> None:
    """Its record is not there by half, its lock keeps nobody out, and the same command does the rest."""
    names = [f"model-{number:02d}" for number in range(LAST)]
    process = stopped_in_the_middle(url, names, of=names[FIRST])
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert published(url) == names[:FIRST]
    for name in names:
        Store(url).publish(record(name))
    assert published(url) == names
