"""An S3 server for tests in a process of its own, on loopback; buckets named after a fault have that fault.

``deaf-*`` ignores every condition, ``halfdeaf-*`` only If-Match. ``lossy-*`` does what it is told and hangs up instead
of answering, the first time for each object. ``busy-*`` asks to come again, twice. ``clumsy-*`` answers 409 to the
first creation of an object and does nothing. ``full-*`` refuses with a status that no repetition helps. ``held-n-*``
stops at the n-th write (or the first of the object n), says so on standard output, and carries it out when the
client is gone.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import threading
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

KEYS = {"access_key_id": "tests", "secret_access_key": "very-secret", "region": "us-east-1"}


@dataclass
class S3Server:
    """A running server."""

    process: subprocess.Popen[str]
    endpoint: str

    def bucket(self, kind: str = "good") -> str:
        """Make a new bucket and return the address of a tree in it."""
        name = f"{kind}-{uuid.uuid4().hex[:8]}"
        self.ask(name, "PUT")
        return f"s3://{name}/deep/my.tree"

    def ask(self, path: str, method: str = "GET") -> bytes:
        request = urllib.request.Request(f"{self.endpoint}/{path}", method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            data: bytes = answer.read()
        return data

    def seen(self, url: str, *, probes: bool = False) -> Counter[str]:
        """How many requests of each method the objects of a bucket had; those of probes are counted apart."""
        paths = [(method, path) for method, path in json.loads(self.ask("_seen")) if path.count("/") > 2]
        bucket = f"/{url.split('/')[2]}/"
        return Counter(method for method, path in paths if path.startswith(bucket) and ("/.probe-" in path) == probes)

    @property
    def options(self) -> dict[str, str]:
        return {"endpoint": self.endpoint, **KEYS}

    @property
    def environment(self) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL": self.endpoint, **{f"AWS_{name.upper()}": value for name, value in KEYS.items()}}


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Start a server on a free port, and end it afterwards; it ends, too, when this process does."""
    command = [sys.executable, __file__]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port, "the S3 server did not start"
        yield S3Server(process, f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.communicate()


class Faulty:
    """The server's application, one request at a time, so that conditions are checked and acted on as one."""

    def __init__(self, app: Any) -> None:
        self.app, self.lock = app, threading.Lock()
        self.seen: list[tuple[str, str]] = []
        self.times: Counter[tuple[str, str]] = Counter()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if path == "/_seen":
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(self.seen).encode()]
        kind = path.split("/")[1].split("-")[0]
        an_object = path.count("/") > 1 and "/.probe-" not in path
        with self.lock:
            self.seen.append((method, path))
            self.times[method, path] += an_object
            nth = self.times[method, path]
            writes = sum(n for (m, p), n in self.times.items() if m == "PUT" and p.split("/")[1] == path.split("/")[1])
        if kind in ("deaf", "halfdeaf"):
            environ.pop("HTTP_IF_MATCH", None)
        if kind == "deaf":
            environ.pop("HTTP_IF_NONE_MATCH", None)
        if an_object:
            fault = {("busy", 1): 503, ("busy", 2): 503, ("clumsy", 1): 409, ("full", nth): 400}.get((kind, nth))
            if fault is not None and (kind != "clumsy" or "HTTP_IF_NONE_MATCH" in environ):
                start_response(f"{fault} Fault", [("Content-Type", "application/xml")])
                return [b"<Error><Code>Fault</Code><Message>On purpose.</Message></Error>"]
            if (
                kind == "held"
                and method == "PUT"
                and path.split("/")[1].split("-")[1] in (str(writes), named(path, nth))
            ):
                print(f"held {path}", flush=True)
                gone(environ["werkzeug.socket"])
        with self.lock:
            answer = self.app(environ, start_response)
        if kind == "lossy" and an_object and method == "PUT" and nth == 1:
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return answer


def named(path: str, nth: int) -> str:
    """The word for an object's first write: its file's name without the ending."""
    return path.rpartition("/")[2].partition(".")[0] if nth == 1 else ""


def gone(client: socket.socket) -> None:
    """Wait until the client is gone, for a minute at most."""
    poll = select.poll()
    poll.register(client, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
    poll.poll(60_000)


def serve() -> None:
    """Serve until standard input ends."""
    import logging

    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = make_server("127.0.0.1", 0, Faulty(DomainDispatcherApplication(create_backend_app)), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    serve()
