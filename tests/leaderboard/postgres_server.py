"""A real PostgreSQL of the tests' own, which can be killed and started again."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import psutil
import psycopg
from ports import free_port


def binaries() -> Path | None:
    """Where initdb and pg_ctl lie; Debian keeps them off the path."""
    found = shutil.which("pg_ctl")
    places = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists()), None)


class Server:
    """A server in a directory of its own; ``durable`` makes it write through to the disk, as a real one does."""

    def __init__(self, place: Path, *, durable: bool = False) -> None:
        self._place = place
        # PostgreSQL refuses to run as root. Unix sockets want a short path, so the directory is not pytest's.
        root_user = os.getuid() == 0
        self._user = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid} if root_user else {}
        self._root = Path(tempfile.mkdtemp(prefix="beans-pg-"))
        if root_user:
            shutil.chown(self._root, user="nobody", group=self._user["group"])
        self.port = free_port()
        self.address = f"postgresql://beans@127.0.0.1:{self.port}"
        self._durable = durable
        self._numbers = iter(range(10**6))
        self._run("initdb", "-U", "beans", "-A", "trust", "--no-sync", "-E", "UTF8", "--no-locale")

    def start(self) -> None:
        """Start, also after a kill."""
        options = f"-p {self.port} -k {self._root} -c listen_addresses=127.0.0.1"
        options += "" if self._durable else " -c fsync=off"
        self._run("pg_ctl", "-o", options, "-l", str(self._root / "log"), "-w", "start")

    def kill(self) -> None:
        """SIGKILL to the server and to the processes that serve connections, as when the machine's memory is full."""
        server = psutil.Process(int(self._pid_file.read_text().split()[0]))
        processes = [server, *server.children(recursive=True)]
        for process in processes:
            process.send_signal(signal.SIGKILL)
        psutil.wait_procs(processes, timeout=20)

    def remove(self) -> None:
        """Stop at once and leave nothing."""
        if self._pid_file.exists():
            self._run("pg_ctl", "-m", "immediate", "-w", "stop")
        shutil.rmtree(self._root, ignore_errors=True)

    def database(self) -> str:
        """Address of a new, empty database."""
        name = f"db_{os.getpid()}_{next(self._numbers)}"
        with psycopg.connect(f"{self.address}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"{self.address}/{name}"

    @property
    def _pid_file(self) -> Path:
        return self._root / "data" / "postmaster.pid"

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._place / program), "-D", str(self._root / "data"), *arguments]
        groups = [] if self._user else None
        subprocess.run(
            command, check=True, cwd=self._root, stdout=subprocess.DEVNULL, extra_groups=groups, **self._user
        )
