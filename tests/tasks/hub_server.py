"""A Hugging Face hub on this machine: serves a directory as a data set in the protocol that `datasets` speaks."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serve(repository: str, directory: Path) -> Iterator[str]:
    """The address of a hub that has one data set, the files of ``directory``; for HF_ENDPOINT."""

    class Hub(_Hub):
        name = repository
        root = directory

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    name: str
    root: Path

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path == "/":
            self._send(200, b"")
        elif path.startswith(f"/datasets/{self.name}/resolve/"):
            self._file(self.root / path.removeprefix(f"/datasets/{self.name}/resolve/").partition("/")[2])
        elif path.startswith(f"/api/datasets/{self.name}"):
            self._api(path.removeprefix(f"/api/datasets/{self.name}").strip("/"))
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        # Which of these paths there are.
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        json_body = "json" in self.headers.get("Content-Type", "")
        paths = json.loads(body)["paths"] if json_body else parse_qs(body)["paths"]
        self._json([self._entry(self.root / path) for path in paths if (self.root / path).exists()])

    def _api(self, request: str) -> None:
        kind, _, rest = request.partition("/")
        directory = self.root / rest.partition("/")[2]
        if kind in ("", "revision"):
            siblings = [{"rfilename": self._entry(file)["path"]} for file in self.root.rglob("*") if file.is_file()]
            self._json({"id": self.name, "sha": COMMIT, "siblings": siblings, "tags": [], "private": False})
        elif kind == "tree" and directory.is_dir():
            recursive = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() == "true"
            self._json([self._entry(path) for path in (directory.rglob("*") if recursive else directory.iterdir())])
        else:
            self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})

    def _entry(self, path: Path) -> dict[str, object]:
        """What the hub says of a path."""
        name = path.relative_to(self.root).as_posix()
        if path.is_dir():
            return {"type": "directory", "oid": "0" * 40, "size": 0, "path": name}
        return {"type": "file", "oid": _etag(path), "size": path.stat().st_size, "path": name}

    def _file(self, file: Path) -> None:
        if file.is_file():
            self._send(200, file.read_bytes(), {"X-Repo-Commit": COMMIT, "ETag": f'"{_etag(file)}"'})
        else:
            self._send(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})

    def _json(self, answer: object) -> None:
        self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _etag(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()
