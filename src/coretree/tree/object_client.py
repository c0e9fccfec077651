"""Words with an object server: one client a place and process, patience that ends, and what the server said as a line.

The client repeats nothing by itself: every attempt is one request of bounded length, made here again as long as the
fault is one that passes and the patience lasts. So the longest time a call can take is a sum that can be written
down, an interrupt is heard between two attempts, and whoever asks knows that an answer may have been lost.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar

import obstore
from obstore.exceptions import BaseError, GenericError
from obstore.store import from_url

from coretree.errors import ConfigError

T = TypeVar("T")
FIRST_PAUSE_S, LONGEST_PAUSE_S, CONNECT_S = 0.1, 2.0, 5.0
METADATA_S = 3.0  # for credentials from the machine's own metadata service, which answers at once or is not there
_METADATA = ("169.254.169.254", "169.254.170.2", "metadata.google.internal")
_PASSING = {408, 425, 429, 500, 502, 503, 504}  # of all status codes, those worth another attempt
_LASTING = ("builder error", "redirect", "could not be found in the chain")
_PREFIXES = ("AWS_", "AZURE_", "GOOGLE_")
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "bucket does not exist")


@dataclass
class Connection:
    """A client, and whether this process knows already that the place honours conditional writes."""

    client: Any
    lock: threading.Lock = field(default_factory=threading.Lock)
    checked: bool = False


_MEMORY: dict[str, Connection] = {}  # one address is one place, for as long as the process lasts


def connection(url: str, options: Mapping[str, Any], request_s: float) -> Connection:
    """Return this process's connection to a place; a changed environment (credentials) makes a new one.

    Raises
    ------
    ConfigError
        An option that the kind of store does not know, or one that it needs and does not get.
    """
    if url.startswith("memory:"):
        return _MEMORY.setdefault(url, Connection(from_url("memory:///")))
    kept = frozenset((k, v) for k, v in os.environ.items() if k.startswith(_PREFIXES) or k.lower().endswith("_proxy"))
    return _connect(url, _Options(repr(sorted(options.items())), dict(options)), request_s, kept)


@dataclass(frozen=True)
class _Options:
    """Options of any kind, known by how they are written."""

    written: str = field(repr=False)
    values: dict[str, Any] = field(compare=False, repr=False)


@lru_cache(maxsize=64)
def _connect(url: str, options: _Options, request_s: float, environment: frozenset[tuple[str, str]]) -> Connection:
    given = dict(options.values)
    http = {
        "timeout": f"{round(1000 * request_s)}ms",
        "connect_timeout": f"{round(1000 * min(CONNECT_S, request_s))}ms",
        **given.pop("client_options", {}),
    }
    named = [*given.items(), *environment]
    if any("endpoint" in key.lower() and str(value).startswith("http://") for key, value in named):
        http.setdefault("allow_http", True)  # who names such an endpoint wants it; else the client refuses
    try:
        return Connection(from_url(url, client_options=http, retry_config={"max_retries": 0}, **given))
    except (BaseError, ValueError, TypeError) as error:
        raise ConfigError(f"{url}: cannot be opened: {reason(error)}.") from error


def persist(call: Callable[[], T], patience_s: float) -> T:
    """Call until it works or the fault is no passing one; a fault that lasts `patience_s` seconds is raised.

    Examples
    --------
    >>> persist(lambda: 1, patience_s=5.0)
    1
    """
    started, pause = time.monotonic(), FIRST_PAUSE_S
    while True:
        try:
            return call()
        except GenericError as error:
            limit = min(patience_s, METADATA_S) if any(host in str(error) for host in _METADATA) else patience_s
            if not passes(error) or time.monotonic() - started + pause > limit:
                raise
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)


def passes(error: BaseException) -> bool:
    """Whether another attempt may work: no answer, a broken one, or one that says so.

    Examples
    --------
    >>> passes(GenericError("status code: 503 Slow Down")), passes(GenericError("status code: 400 Bad Request"))
    (True, False)
    """
    text = _said(error)
    status = re.search(r"status code: (\d{3})", text)
    if status is not None:
        return int(status[1]) in _PASSING
    return not any(word in text for word in _LASTING)


def lacks_bucket(error: BaseException) -> bool:
    """Whether it is the bucket that is not there, not the object."""
    return any(word in str(error) for word in _NO_BUCKET)


def reason(error: BaseException) -> str:
    """Say in one line what the server or the network said, without times, queries (which may be signed) and markup.

    Examples
    --------
    >>> reason(GenericError("Error performing GET http://h/b?sig=x in 3.1ms - status code: 400: <Code>No</Code>"))
    'Error performing GET http://h/b - status code: 400: No'
    """
    text = _said(error)
    cause = re.search(r'message: "([^"]+)"', str(error)[len(text) :])
    code, message = (re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL) for tag in ("Code", "Message"))
    if code is not None:
        text = text[: text.index("<")] + ": ".join(part[1] for part in (code, message) if part is not None)
    elif cause is not None:
        text += f" ({cause[1]})"
    elif "TimedOut" in str(error):
        text += " (no answer in time)"
    text = re.sub(r"\?\S+| in [\d.]+(ns|µs|ms|s)\b", "", text)
    return re.sub(r"\s+", " ", text).strip(" .")[:300]


def _said(error: BaseException) -> str:
    """What an error says, without the client's own innards, which follow after an empty line."""
    return str(error).partition("\n\nDebug source")[0]


def listed(client: Any, folder: str) -> list[str]:
    """Return the keys of all objects in a folder, at any depth."""
    return [str(item["path"]) for chunk in obstore.list(client, prefix=folder or None) for item in chunk]
