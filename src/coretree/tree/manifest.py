"""What is current: one small JSON object that names the root, the leaves and every node with its checksum.

Readers trust a manifest and nothing else that lies in the store. It is replaced atomically by comparing and setting,
so an update is visible whole or not at all, and of two writers one wins.

The text is canonical JSON with the sha256 of itself (without that member) as ``"sha256"``: any JSON reader can use it,
and a changed digit is noticed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from coretree.errors import DamagedNodeError, MissingObjectError, StoreError
from coretree.tree.plan import JSON, canonical_json, digest
from coretree.tree.store import Store, token

FORMAT = 1
MANIFEST_KEY = "manifest.json"


class StoredObject(NamedTuple):
    """Checksum and length of one stored object; training rows that it stands for, and their first and last event time.

    Times are seconds since 1970 (UTC); None where the data have no time column, or no row.
    """

    sha256: str
    n_bytes: int
    n_rows: int = 0
    first: float | None = None
    last: float | None = None


def name_of_leaf(identity: str, row_groups: Sequence[int], fingerprint: str, erased: Sequence[int], recipe: str) -> str:
    """Name of a leaf's node: what is read, which rows are left out, and under which recipe."""
    return digest("leaf", identity, list(row_groups), fingerprint, recipe, *([list(erased)] if erased else []))


@dataclass(frozen=True)
class LeafEntry:
    """One leaf as the manifest knows it.

    Attributes
    ----------
    identity : str
        What stays the same when the content changes, such as ``"2013/01.parquet:0-3"`` (path relative to the dataset).
    name : str
        Name of the leaf's node.
    fingerprint : str
        Of the content it was built from; another one means that the leaf must be built again.
    n_rows : int
        Rows of the data that it stands for.
    extra : mapping of str to JSON
        Whatever else planning needs without opening the node: ``path`` and ``row_groups``, ``partition`` values (pairs
        of text), and the identities of ``erased`` rows.
    """

    identity: str
    name: str
    fingerprint: str
    n_rows: int
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def content(self) -> tuple[str, tuple[int, ...], str, tuple[int, ...]]:
        """What its node is made of: identity, row groups, fingerprint and erased rows."""
        about = self.extra
        return self.identity, tuple(about.get("row_groups", ())), self.fingerprint, tuple(about.get("erased", ()))

    def node_under(self, recipe: str) -> str:
        """Name of the leaf's node under a recipe."""
        return name_of_leaf(*self.content, recipe)


@dataclass(frozen=True)
class Manifest:
    """The current state of a tree.

    Attributes
    ----------
    root : str
        Name of the root node.
    recipe : str
        Name of the recipe under which every node was built.
    leaves : tuple of LeafEntry
        In leaf order.
    fan_in : int
        As it was given to the plan.
    nodes : mapping of str to StoredObject
        Checksum and length of every node's object, by node name.
    settings : mapping of str to JSON
        The tree's settings, as far as they are not part of the recipe.
    created_by : mapping of str to str
        Versions that wrote the manifest, by package; ``"coretree"`` should be among them.
    """

    root: str
    recipe: str
    leaves: tuple[LeafEntry, ...]
    fan_in: int
    nodes: Mapping[str, StoredObject]
    settings: Mapping[str, Any] = field(default_factory=dict)
    created_by: Mapping[str, str] = field(default_factory=dict)

    @property
    def n_rows(self) -> int:
        """Rows of the data that the whole tree stands for."""
        return sum(leaf.n_rows for leaf in self.leaves)

    @property
    def refined(self) -> tuple[str, str] | None:
        """Names of the recipe and the root of the third pass; None where there was none."""
        found = self.settings.get("refined")
        return None if found is None else (str(found["recipe"]), str(found["root"]))

    def to_json(self) -> bytes:
        """Return the canonical bytes: equal manifests, equal bytes.

        Raises
        ------
        ValueError
            A float in `settings` or in a leaf's `extra` is not finite.

        Examples
        --------
        >>> leaf = LeafEntry("a.parquet:0", "abc", "1024-17", 10)
        >>> manifest = Manifest("abc", "r", (leaf,), 8, {"abc": StoredObject("00ff", 512)})
        >>> Manifest.from_json(manifest.to_json(), where="example") == manifest
        True
        """
        content: dict[str, JSON] = {
            "format": FORMAT,
            "root": self.root,
            "recipe": self.recipe,
            "leaves": [vars(leaf) for leaf in self.leaves],  # not asdict, which copies every value
            "fan_in": self.fan_in,
            "nodes": self.nodes,
            "settings": self.settings,
            "created_by": self.created_by,
        }
        text = canonical_json(content).encode("ascii")
        assert max(content) < "sha256"  # so that the checksum is the last member of the canonical text
        return b'%b,"sha256":"%b"}\n' % (text[:-1], hashlib.sha256(text).hexdigest().encode("ascii"))

    @classmethod
    def from_json(cls, data: bytes, *, where: str) -> Manifest:
        """Return the manifest in some bytes.

        Parameters
        ----------
        data : bytes
            What `to_json` returned; other spacing or order of members does no harm.
        where : str
            Where the bytes come from, for messages.

        Raises
        ------
        DamagedNodeError
            No JSON object, a checksum that does not match, or members that are missing or of another kind.
        StoreError
            Whole, but of a newer format; the message says which version of coretree wrote it.
        """
        content = _checked(data, where)
        if content.get("format") != FORMAT:
            versions = content.get("created_by")
            version = versions.get("coretree") if isinstance(versions, dict) else None
            needed = f"coretree {version} or newer" if version else "the version of coretree that wrote it"
            raise StoreError(
                f"{where}: the manifest has format {content.get('format')!r}, but this version of coretree reads "
                f"format {FORMAT}. Use {needed}, for instance with: pip install --upgrade coretree"
            )
        try:
            return cls(
                root=_of(str, content["root"]),
                recipe=_of(str, content["recipe"]),
                leaves=tuple(_leaf(leaf) for leaf in _of(list, content["leaves"])),
                fan_in=_of(int, content["fan_in"]),
                nodes={name: _object(*entry) for name, entry in _of(dict, content["nodes"]).items()},
                settings=_of(dict, content["settings"]),
                created_by=_of(dict, content["created_by"]),
            )
        except (KeyError, TypeError) as error:
            raise _damaged(where, f"a member is missing or of another kind: {error}") from error


def load(store: Store, *, key: str = MANIFEST_KEY) -> tuple[Manifest, str] | None:
    """Return the current manifest with its version token for `commit`, or None when nothing was committed yet.

    Raises
    ------
    DamagedNodeError, StoreError
        See `Manifest.from_json`.
    """
    try:
        data = store.get(key)
    except MissingObjectError:
        return None
    return Manifest.from_json(data, where=f"{store!r}, {key}"), token(data)


def commit(store: Store, manifest: Manifest, *, expected: str | None, key: str = MANIFEST_KEY) -> str:
    """Make a manifest the current one, and return its version token.

    Parameters
    ----------
    store : Store
        Where every node that the manifest names is stored already.
    manifest : Manifest
        What shall be current.
    expected : str or None
        Token of the manifest that it is based on, from `load` or an earlier `commit`; None: there must be none yet.
    key : str, default "manifest.json"
        Where it is kept.

    Raises
    ------
    WriteConflictError
        Another writer committed in between; nothing of theirs is lost, and our nodes stay stored.

    Examples
    --------
    >>> from coretree.tree.store import MemoryStore
    >>> store = MemoryStore()
    >>> load(store) is None
    True
    >>> manifest = Manifest("abc", "r", (LeafEntry("a.parquet:0", "abc", "1024-17", 10),), 8, {})
    >>> version = commit(store, manifest, expected=None)
    >>> load(store) == (manifest, version)
    True
    """
    return store.replace(key, manifest.to_json(), expected=expected)


def _checked(data: bytes, where: str) -> dict[str, Any]:
    """Return the parsed members without the checksum, after it was found right."""
    try:
        content = json.loads(data)
    except ValueError as error:
        raise _damaged(where, f"it is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise _damaged(where, "it is not a JSON object")
    found = content.pop("sha256", None)
    try:
        expected = hashlib.sha256(canonical_json(content).encode("ascii")).hexdigest()
    except ValueError as error:  # NaN and Infinity, which Python reads but JSON does not know
        raise _damaged(where, f"it is not JSON: {error}") from error
    if found != expected:
        raise _damaged(where, f"its content has sha256 {expected[:12]}…, but it says {str(found)[:12]}…")
    return content


def _damaged(where: str, fault: str) -> DamagedNodeError:
    return DamagedNodeError(
        f"{where}: the manifest is damaged: {fault}. Restore it from a backup, or delete it and run the build again: "
        f"the nodes that are stored already are used again."
    )


def _of(kind: type, value: Any) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"expected {kind.__name__}, found {value!r:.80}")
    return value


def _leaf(members: Any) -> LeafEntry:
    leaf = LeafEntry(**_of(dict, members))
    texts, extra = (leaf.identity, leaf.name, leaf.fingerprint), leaf.extra
    if not all(type(text) is str for text in texts) or type(leaf.n_rows) is not int or type(extra) is not dict:
        raise TypeError(f"a leaf is {members!r:.200}")
    return leaf


def _object(sha256: Any, n_bytes: Any, n_rows: Any, first: Any, last: Any) -> StoredObject:
    if type(sha256) is not str or type(n_bytes) is not int or type(n_rows) is not int:
        raise TypeError(f"expected text and two whole numbers, found {sha256!r:.80}, {n_bytes!r:.20}, {n_rows!r:.20}")
    return StoredObject(sha256, n_bytes, n_rows, _time(first), _time(last))


def _time(edge: Any) -> float | None:
    return None if edge is None else float(edge)
