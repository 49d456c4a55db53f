"""A real HTTP server whose files can break off, change, lie and stall on the way, and which keeps what it was asked."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BLOCK = 1 << 14
SILENCE = 3.0


@dataclass
class Served:
    """One file and how it is served. The lists say it of the requests to come, one entry each; then all goes well.

    Attributes:
        content: what the file holds.
        etag: sent as ETag and compared with If-Range; "" for none.
        ranges: whether Range is answered with 206; if not, with the whole file.
        if_range: whether If-Range is obeyed.
        drops: number of body bytes after which the connection is cut; -1 for a request that is served whole.
        stalls: number of body bytes after which the server falls silent for ``SILENCE`` seconds; -1 for never.
        statuses: sent instead of the file; 0 for the file.
        headers: sent besides the usual ones.
        length: sent as Content-Length instead of the true one; "" for none at all.
        pause: seconds before each 16 KiB of the body.
    """

    content: bytes
    etag: str = '"one"'
    ranges: bool = True
    if_range: bool = True
    drops: list[int] = field(default_factory=list)
    stalls: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    length: str | None = None
    pause: float = 0.0


@dataclass(frozen=True)
class Asked:
    """One request, and the status that the server answered with."""

    method: str
    path: str
    range: str | None
    if_range: str | None
    encoding: str | None
    status: int


class FileServer(ThreadingHTTPServer):
    """Serves ``files`` by path; ``asked`` keeps the requests in order."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, Served] = {}
        self.asked: list[Asked] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def add(self, path: str, content: bytes, **how: Any) -> str:
        """Serve a file; returns its URL."""
        self.files[path] = Served(content, **how)
        return f"{self.url}{path}"

    def ranges(self, path: str) -> list[str | None]:
        """The Range headers of the GET requests of a path."""
        return [asked.range for asked in self.asked if asked.path == path and asked.method == "GET"]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is what these tests are about."""


@contextmanager
def serving() -> Iterator[FileServer]:
    """A server that runs as long as the context."""
    server = FileServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FileServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        file = self.server.files.get(path)
        status = 404 if file is None else file.statuses.pop(0) if file.statuses else 0
        if file is None or status:
            self.note(path, status)
            self.send_response(status)
            for name, value in (file.headers if file else {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        first = self.first(file)
        if first is not None and first >= len(file.content):
            self.note(path, 416)
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(file.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.note(path, 200 if first is None else 206)
        self.send_response(200 if first is None else 206)
        content = file.content[first or 0 :]
        if first is not None:
            self.send_header("Content-Range", f"bytes {first}-{len(file.content) - 1}/{len(file.content)}")
        if file.etag:
            self.send_header("ETag", file.etag)
        for name, value in file.headers.items():
            self.send_header(name, value)
        length = str(len(content)) if file.length is None else file.length
        if length:
            self.send_header("Content-Length", length)
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        if body:
            self.send(file, content)
        if not length or length != str(len(content)):
            self.close_connection = True

    def first(self, file: Served) -> int | None:
        """The first byte of the range that is asked for, where ranges are answered."""
        asked = self.headers.get("Range")
        if asked is None or not file.ranges:
            return None
        condition = self.headers.get("If-Range")
        if file.if_range and condition is not None and condition not in (file.etag, file.headers.get("Last-Modified")):
            return None
        return int(asked.removeprefix("bytes=").rstrip("-"))

    def send(self, file: Served, content: bytes) -> None:
        drop = file.drops.pop(0) if file.drops else -1
        stall = file.stalls.pop(0) if file.stalls else -1
        sent = content if drop < 0 else content[:drop]
        for start in range(0, len(sent), BLOCK):
            time.sleep(file.pause)
            if 0 <= stall < start + BLOCK:
                self.wfile.write(sent[start:stall])
                time.sleep(SILENCE)
                self.close_connection = True
                return
            self.wfile.write(sent[start : start + BLOCK])
        if drop >= 0:
            self.close_connection = True

    def note(self, path: str, status: int) -> None:
        asked = [self.headers.get(name) for name in ("Range", "If-Range", "Accept-Encoding")]
        self.server.asked.append(Asked(self.command, path, *asked, status))
