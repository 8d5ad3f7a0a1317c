"""Fetching from a hub of our own, with the library as it is."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
COMMIT = "2" * 40
NAME = "data/validation-00000-of-00001.parquet"
PROGRAM = """
import sys
from datamodules import RefCOCOM
data = RefCOCOM(sys.argv[1], download=True)
data.prepare_data()
data.prepare_data()
print(data.n_images, [scene.error for scene in data.predict_dataloader()])
"""


class Hub(ThreadingHTTPServer):
    """Serves one file of one repository, and remembers what it was asked for."""

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.asked: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(f"{self.command} {path}")
        api, content = "/api/datasets/moondream/refcoco-m", self.server.content
        digest = hashlib.sha1(content).hexdigest()
        listing = [{"type": "file", "path": NAME, "size": len(content), "oid": digest}]
        listing += [{"type": "file", "path": "data/other-00000-of-00001.parquet", "size": 9, "oid": "1" * 40}]
        pages = {
            f"{api}/revision/main": json.dumps(
                {"id": "moondream/refcoco-m", "sha": COMMIT, "siblings": []}
            ).encode(),
            f"{api}/tree/{COMMIT}": json.dumps(listing).encode(),
            f"/datasets/moondream/refcoco-m/resolve/{COMMIT}/{NAME}": content,
        }
        self.send_response(200 if path in pages else 404)
        self.send_header("Content-Length", str(len(pages.get(path, b""))))
        self.send_header("ETag", f'"{digest}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(pages.get(path, b""))

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


@pytest.fixture
def hub(tmp_path: Path, write: Callable[..., Path], m_rows: list[dict[str, Any]]) -> Iterator[Hub]:
    with Hub(write(tmp_path / "served", "refcoco-m", m_rows).read_bytes()) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def start(hub: Hub, tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program in a process of its own, since the library reads its settings once."""
    own = {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_address[1]}",
        "HF_HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(ROOT),
        **environment,
    }
    for variable in ("HF_HUB_CACHE", "HF_HUB_OFFLINE"):
        own.setdefault(variable, "")
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "data")],
        env={**os.environ, **{key: value for key, value in own.items() if value}},
        capture_output=True,
        text=True,
        timeout=1000,
        check=False,
    )


@pytest.mark.slow
def test_only_the_split_is_fetched_and_only_once(hub: Hub, tmp_path: Path) -> None:
    first = start(hub, tmp_path)
    assert first.stdout == "2 [None, None]\n", first.stderr
    got = [line for line in hub.asked if line.startswith("GET") and "/resolve/" in line]
    assert got == [f"GET /datasets/moondream/refcoco-m/resolve/{COMMIT}/{NAME}"]
    hub.asked.clear()
    assert start(hub, tmp_path, HF_HUB_OFFLINE="1").stdout == "2 [None, None]\n"
    assert hub.asked == []
