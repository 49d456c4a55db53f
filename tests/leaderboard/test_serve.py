"""Starting and ending the servers; a mistake here leaves processes behind or hides why nothing starts."""

import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
from ports import free_port

from leaderboard.web.serve import serve
from tasks.support.errors import UserError
from tasks.support.home import Home

PROGRAM = """
import sys
from pathlib import Path
from leaderboard.web.serve import serve
from tasks.support.home import Home
serve(Home.at(Path(sys.argv[1])), port=int(sys.argv[2]), mlflow_port=int(sys.argv[3]) or None)
"""


def answers(url: str, seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5) as reply:
                return bool(reply.status == 200)
        except OSError:
            time.sleep(0.2)
    return False


def test_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=str(port)):
            serve(Home.at(tmp_path), port=port)
        with pytest.raises(UserError, match=str(port)):
            serve(Home.at(tmp_path), port=free_port(), mlflow_port=port)


def test_one_port_for_both_is_refused(tmp_path: Path) -> None:
    port = free_port()
    with pytest.raises(UserError, match="two ports"):
        serve(Home.at(tmp_path), port=port, mlflow_port=port)


@pytest.mark.parametrize(
    ("number", "with_mlflow"), [(signal.SIGINT, False), pytest.param(signal.SIGTERM, True, marks=pytest.mark.slow)]
)
def test_servers_answer_and_end_with_us(tmp_path: Path, number: signal.Signals, with_mlflow: bool) -> None:
    """Ctrl-C, or a supervisor's SIGTERM, must not leave servers that hold the ports."""
    port, mlflow_port = free_port(), free_port() if with_mlflow else 0
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(port), str(mlflow_port)]
    ports = [port, mlflow_port] if with_mlflow else [port]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert answers(f"http://127.0.0.1:{port}/_stcore/health")
            assert not with_mlflow or answers(f"http://127.0.0.1:{mlflow_port}/health")
            started = psutil.Process(process.pid).children(recursive=True)
            assert len(started) >= len(ports)
        finally:
            process.send_signal(number)
        said, _ = process.communicate(timeout=20)
    assert re.findall(r"http://localhost:(\d+)", said) == [str(number) for number in ports]
    assert process.returncode == 0
    _, alive = psutil.wait_procs(started, timeout=5)
    assert [child for child in alive if child.status() != psutil.STATUS_ZOMBIE] == []


def test_server_that_cannot_start_is_said_and_ends_the_other(tmp_path: Path) -> None:
    """MLflow with a broken database must not leave a board without it, silently."""
    (tmp_path / "mlflow.db").write_text("no database")
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(free_port()), str(free_port())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert "MLflow ended by itself" in done.stderr
