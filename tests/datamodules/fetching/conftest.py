"""A web server on this machine that misbehaves as told."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from datamodules.fetching.transfer import Patience

Behaviour = Callable[["Handler", bytes], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.path = self.path.partition("?")[0]
        self.server.seen.append((self.path, dict(self.headers)))
        if self.path not in self.server.pages:
            self.send_error(404)
            return
        content, behaviours = self.server.pages[self.path]
        behaviour = behaviours.pop(0) if len(behaviours) > 1 else behaviours[0]
        self.close_connection = True
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client has had enough
            behaviour(self, content)

    do_HEAD = do_GET

    def head(self, code: int, length: int | None, **headers: str) -> None:
        self.send_response(code)
        self.send_header("Connection", "close")
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, tuple[bytes, list[Behaviour]]] = {}
        self.seen: list[tuple[str, dict[str, str]]] = []

    def serve(self, path: str, content: bytes, *behaviours: Behaviour) -> str:
        """Serve ``content``, one behaviour per request, the last for all that follow; returns the address."""
        self.pages[path] = (content, list(behaviours or [send()]))
        return self.url(path)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    @property
    def ranges(self) -> list[str | None]:
        return [headers.get("Range") for _, headers in self.seen]


@dataclass
class Send:
    """Send the content like an honest server, but for what the fields say.

    Attributes:
        etag: Of the file; None for none.
        ranges: Whether Range and If-Range are heeded.
        stop: Bytes of the body after which the connection is closed, or None.
        pause: Seconds of silence at that point, before it is closed.
        announce: A Content-Length that is not the truth.
        kind: Content-Type.
        code: Status.
        headers: More headers.
    """

    etag: str | None = '"1"'
    ranges: bool = True
    stop: int | None = None
    pause: float = 0.0
    announce: int | None = None
    kind: str = "application/octet-stream"
    code: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def __call__(self, handler: Handler, content: bytes) -> None:
        start = self._start(handler)
        headers = {"Content_Type": self.kind, **self.headers}
        if self.etag:
            headers["ETag"] = self.etag
        if start >= len(content) and start:
            handler.head(416, 0, Content_Range=f"bytes */{len(content)}")
            return
        body = content[start:]
        if start:
            headers["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        length = len(body) if self.announce is None else self.announce
        handler.head(206 if start else self.code, length, **headers)
        if handler.command == "HEAD":
            return
        sent = body if self.stop is None else body[: self.stop]
        handler.wfile.write(sent)
        handler.wfile.flush()
        time.sleep(self.pause)

    def _start(self, handler: Handler) -> int:
        wanted, condition = handler.headers.get("Range"), handler.headers.get("If-Range")
        if not self.ranges or not wanted or (condition and condition != self.etag):
            return 0
        return int(wanted.removeprefix("bytes=").removesuffix("-"))


def send(**fields: object) -> Behaviour:
    return Send(**fields)  # type: ignore[arg-type]


def answer(code: int, **headers: str) -> Behaviour:
    """Answer with a status and no content."""
    return lambda handler, _: handler.head(code, 0, **headers)


def chunked(handler: Handler, content: bytes) -> None:
    """Send without saying how long it will be."""
    handler.head(200, None, Transfer_Encoding="chunked")
    for start in range(0, len(content), 1000):
        piece = content[start : start + 1000]
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
    handler.wfile.write(b"0\r\n\r\n")


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def behave() -> type[Send]:
    return Send


@pytest.fixture
def status() -> Callable[..., Behaviour]:
    return answer


@pytest.fixture
def in_chunks() -> Behaviour:
    return chunked


@pytest.fixture
def hasty() -> Patience:
    return Patience(connect=20, stall=20, attempts=3, first_wait=0.01, longest_wait=0.05)


@pytest.fixture
def sha256() -> Callable[[bytes], str]:
    return lambda content: hashlib.sha256(content).hexdigest()
