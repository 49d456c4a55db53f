"""Start the leaderboard, and MLflow if wanted, and stop both together."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from tasks.support.errors import UserError
from tasks.support.home import Home

# Seconds that a child process has to end after a signal, and seconds between two checks of the child processes.
GRACE = 5.0
POLL = 0.2

THEME = {
    "theme.light.primaryColor": "#0f766e",
    "theme.light.linkColor": "#0f766e",
    "theme.light.backgroundColor": "#ffffff",
    "theme.light.secondaryBackgroundColor": "#f3f6f5",
    "theme.light.textColor": "#16211f",
    "theme.light.borderColor": "#dfe6e4",
    "theme.dark.primaryColor": "#1d9384",
    "theme.dark.linkColor": "#4fd1c1",
    "theme.dark.backgroundColor": "#101615",
    "theme.dark.secondaryBackgroundColor": "#1a2422",
    "theme.dark.textColor": "#e8efed",
    "theme.dark.borderColor": "#2c3936",
    "theme.baseRadius": "8px",
}
# No usage statistics, no browser that opens by itself, and no developer menu.
OPTIONS = {
    "server.headless": "true",
    "server.fileWatcherType": "none",
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "viewer",
    **THEME,
}


def serve(home: Home, *, port: int = 8501, mlflow_port: int | None = None, host: str = "127.0.0.1") -> None:
    """Serve the board of ``home`` until Ctrl-C or SIGTERM.

    Args:
        home: its database, tracking address and artifacts are shown.
        port: port of the leaderboard.
        mlflow_port: port of MLflow; None starts no MLflow. Ignored if the home's tracking address is already a server.
        host: the interface that both listen on.

    Raises:
        UserError: a port is in use, or a server ended by itself.
    """
    if home.tracking_uri.startswith(("http://", "https://")):
        mlflow_port = None
    for number in (port, mlflow_port):
        _require_free(host, number)
    if port == mlflow_port:
        raise UserError(f"The leaderboard and MLflow cannot both listen on port {port}: choose two ports.")
    environment = {
        **os.environ,
        "BEANS_HOME": str(home.root),
        "BEANS_DATABASE_URL": home.database_url,
        "MLFLOW_TRACKING_URI": home.tracking_uri,
    }
    commands = {"The leaderboard": (leaderboard_command(host, port), environment)}
    print(f"Leaderboard  http://{_name(host)}:{port}", flush=True)
    if mlflow_port is not None:
        environment["BEANS_MLFLOW_PORT"] = str(mlflow_port)
        commands["MLflow"] = (_mlflow_command(host, mlflow_port), _mlflow_environment(home))
        print(f"MLflow       http://{_name(host)}:{mlflow_port}", flush=True)
    _run_until_stopped(commands)


def leaderboard_command(host: str, port: int) -> list[str]:
    """The command that starts the Streamlit app; the home comes from the environment."""
    app = Path(__file__).with_name("app.py")
    options = {"server.address": host, "server.port": str(port), **OPTIONS}
    return [sys.executable, "-m", "streamlit", "run", str(app), *(f"--{key}={value}" for key, value in options.items())]


def _mlflow_command(host: str, port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port)),
        *("--workers", "1", "--uvicorn-opts", "--log-level warning"),
    ]


def _mlflow_environment(home: Home) -> dict[str, str]:
    # Passed by environment: the address may contain a password, and every user can list the arguments of a process.
    return {
        **{key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"},
        "MLFLOW_BACKEND_STORE_URI": home.tracking_uri,
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": str(home.artifacts),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def _run_until_stopped(commands: Mapping[str, tuple[list[str], dict[str, str]]]) -> None:
    stopped = False

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    children: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, (command, environment) in commands.items():
            # Each child has its own session: Ctrl-C reaches only this process, and `_end` ends a child's processes too.
            children[name] = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
            )
        while not stopped:
            for name, child in children.items():
                if child.poll() is not None:
                    raise UserError(f"{name} ended by itself with code {child.returncode}: its messages are above.")
            time.sleep(POLL)
    finally:
        _end(list(children.values()))
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(children: list[subprocess.Popen[bytes]]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        for child in children:
            try:
                os.killpg(child.pid, number)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + GRACE
        for child in children:
            try:
                child.wait(timeout=max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                continue


def _require_free(host: str, port: int | None) -> None:
    if port is None:
        return
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # The servers set this too: a port of a closed connection in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(
                f"Port {port} on {host} cannot be used ({error.strerror}): end what listens there or choose another."
            ) from error


def _name(host: str) -> str:
    """How a browser on this machine writes the host."""
    return "localhost" if host in ("0.0.0.0", "::", "127.0.0.1") else f"[{host}]" if ":" in host else host
