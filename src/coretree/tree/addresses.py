"""From a path or an address to the store that is meant."""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import unquote, urlsplit

from coretree.errors import ConfigError
from coretree.tree.local_store import LocalStore
from coretree.tree.store import Store

# kinds of object stores, with the variables of the environment that open them
SCHEMES = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY",
    "memory": "none",
}


def open_store(where: str | os.PathLike[str], **options: Any) -> Store:
    """Return the store at a path or address; give it to ``CoresetTree`` in place of the path.

    Parameters
    ----------
    where : str or path
        A local path (``~`` is expanded), a ``file://`` address, or ``s3://bucket/prefix``, ``gs://bucket/prefix``,
        ``az://container/prefix``. Nothing is made or read yet.
    **options
        Of an object store: ``single_writer``, ``patience_s``, ``request_s``, ``endpoint``, ``region``, credentials;
        see ``coretree.tree.object_store.ObjectStore``. Without them the environment says.

    Raises
    ------
    ConfigError
        Another kind of address, a ``file://`` address of another host, options that do not belong, or a bucket's
        address without the extra ``cloud``.

    Examples
    --------
    >>> open_store("file:///data/flights.tree")
    LocalStore('/data/flights.tree')
    >>> open_store("s3://bucket/flights.tree", region="eu-central-1")
    ObjectStore('s3://bucket/flights.tree')
    """
    text = os.fspath(where)
    flat = re.match(r"([a-z0-9]{2,}):/(?!/)", text)
    if flat is not None and (flat[1] in SCHEMES or flat[1] == "file"):
        raise ConfigError(f"{text}: as a path the address lost a slash. Give it as text, such as '{flat[1]}://...'.")
    url = urlsplit(text)
    if "://" in text and url.scheme in SCHEMES:
        return _object_store(text, options)
    if options:
        raise ConfigError(f"{text}: a folder takes no options; found {', '.join(sorted(options))}.")
    if "://" not in text:
        return LocalStore(os.path.expanduser(text))
    if url.scheme == "file" and url.netloc in ("", "localhost") and url.path:
        return LocalStore(unquote(url.path))
    raise ConfigError(
        f"{shown(text)}: a tree can be kept in a local folder or a mounted one (NFS), given as a path or as "
        f"file:///path, or in a bucket: s3://bucket/prefix, gs://bucket/prefix, az://container/prefix. "
        f"Give a place that all workers see."
    )


def _object_store(url: str, options: dict[str, Any]) -> Store:
    try:
        from coretree.tree.object_store import ObjectStore
    except ModuleNotFoundError as error:
        if error.name != "obstore":
            raise
        raise ConfigError(f"{shown(url)}: buckets need the extra: pip install 'coretree[cloud]'") from None
    return ObjectStore(url, **options)


def bucket_url(url: str) -> str:
    """Return an object store's address without a trailing slash.

    Raises
    ------
    ConfigError
        Another kind of address, no bucket, or credentials in it, which the message does not repeat.

    Examples
    --------
    >>> bucket_url("s3://bucket/flights.tree/")
    's3://bucket/flights.tree'
    """
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or not (parts.netloc or parts.scheme == "memory"):
        raise ConfigError(f"{shown(url)}: not an address of an object store; use s3://bucket/prefix, gs:// or az://.")
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigError(
            f"{shown(url)}: credentials and options do not belong into the address. Set them in the environment "
            f"({SCHEMES[parts.scheme]}) or give them to coretree.open_store(url, ...)."
        )
    prefix = parts.path.strip("/")
    return f"{parts.scheme}://{parts.netloc}/{prefix}" if prefix else f"{parts.scheme}://{parts.netloc or '/'}"


def shown(url: str) -> str:
    """Return an address fit for messages: without what stands before an ``@`` and after a ``?`` or ``#``.

    Examples
    --------
    >>> shown("s3://key:secret@bucket/x?token=abc")
    's3://...@bucket/x'
    """
    return re.sub(r"[?#].*", "", re.sub(r"//[^/]*@", "//...@", url))
