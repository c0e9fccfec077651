"""One node as bytes: named arrays and JSON metadata as an Arrow IPC stream, sealed with a checksum.

The format, open to any Arrow reader (``pyarrow.ipc.open_stream`` reads it as it is)::

    Arrow IPC stream    one record batch of one row, buffers compressed with lz4
                        columns of type large_list: the values in C order of one array, or of all small arrays of a type
                        schema metadata  "coretree.format"     this format's version
                                         "coretree.arrays"     JSON: of each column, [name, shape] of its arrays
                                         "coretree.metadata"   canonical JSON
    trailer, 40 bytes   b"coretree", then the sha256 of everything before the trailer

Nothing is parsed before the checksum holds: a flipped bit inside a buffer would otherwise be a silent difference, and
one inside the flatbuffers an undefined one. A column costs ten times what a small array does, and a node has a hundred
small arrays: so they share columns. In format 1 each had its own, with its "shape" in the field metadata.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from coretree.errors import DamagedNodeError, StoreError
from coretree.tree.plan import JSON, canonical_json

FORMAT = 2
READ = ("1", "2")
SMALL_BYTES = 8 << 10  # arrays up to this share a column
MAGIC = b"coretree"
TRAILER_BYTES = len(MAGIC) + hashlib.sha256().digest_size

_NUMBERS = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8")
_TO_ARROW = {np.dtype(code): pa.from_numpy_dtype(np.dtype(code)) for code in _NUMBERS}
_TO_NUMPY = {arrow.id: dtype for dtype, arrow in _TO_ARROW.items()}


def encode(arrays: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, JSON]) -> bytes:
    """Return arrays and metadata as the bytes of one stored object.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        Arrays of any shape, also 0-d and empty: bool, signed and unsigned integers, float32, float64, or object
        arrays of str and None. Stored in C order and native byte order.
    metadata : mapping of str to JSON
        Small facts about the node; floats must be finite.

    Returns
    -------
    bytes
        See the format in this module's docstring. Equal arrays and metadata give equal bytes, whatever the order of
        the mappings (within one version of pyarrow).

    Raises
    ------
    ValueError
        An array of another type (named), a string that is not valid Unicode, a float in `metadata` that is not finite.

    Examples
    --------
    >>> data = encode({"weights": np.array([1.5, 2.0])}, {"n_rows": 3})
    >>> arrays, metadata = decode(data, where="example")
    >>> arrays["weights"].tolist(), metadata
    ([1.5, 2.0], {'n_rows': 3})
    """
    columns: dict[tuple[str, str], list[str]] = {}  # (its own name or none, type): names of arrays
    for name in sorted(arrays):
        array = arrays[name]
        own = name if array.nbytes > SMALL_BYTES else ""
        columns.setdefault((own, array.dtype.str[1:]), []).append(name)
    every = [_to_arrow({name: arrays[name] for name in names}) for names in columns.values()]
    fields = [pa.field(own or kind, pa.large_list(v.type)) for (own, kind), v in zip(columns, every, strict=True)]
    # pa.array would import pandas, half a second
    offsets = pa.py_buffer(np.array([(0, len(values)) for values in every], np.int64).reshape(-1))
    lists = [
        pa.LargeListArray.from_buffers(field.type, 1, [None, offsets.slice(16 * i, 16)], children=[values])
        for i, (field, values) in enumerate(zip(fields, every, strict=True))
    ]
    shapes = [[(name, arrays[name].shape) for name in names] for names in columns.values()]
    facts = {
        "coretree.format": str(FORMAT),
        "coretree.arrays": canonical_json(shapes),
        "coretree.metadata": canonical_json(metadata),
    }
    batch = pa.RecordBatch.from_arrays(lists, schema=pa.schema(fields, metadata=facts))
    sink = pa.BufferOutputStream()
    # lz4: most of a node is noise to any compressor, and zstd takes five times as long to shrink it 9 % more;
    # one thread: the bytes must not depend on how many there are
    options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    stream = sink.getvalue()
    return b"".join((stream, MAGIC, hashlib.sha256(stream).digest()))


def decode(data: bytes, *, where: str) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Return the arrays and the metadata of one stored object, after its checksum was found right.

    Parameters
    ----------
    data : bytes
        What `encode` returned.
    where : str
        Where the bytes come from (store and key), for messages.

    Returns
    -------
    arrays : dict of str to ndarray
        In the order of their names, C-contiguous and read-only: numbers look into Arrow's buffers without a copy.
    metadata : dict
        As JSON gives it back: tuples have become lists.

    Raises
    ------
    DamagedNodeError
        The bytes are cut, changed, or never were such an object.
    StoreError
        The object is whole, but of a newer format.
    """
    stream = _checked(data, where)
    try:
        # the threads that Arrow would start cost more than they save on a hundred small buffers
        options = pa.ipc.IpcReadOptions(use_threads=False)
        with pa.ipc.open_stream(pa.py_buffer(stream), options=options) as reader:
            schema, facts = reader.schema, reader.schema.metadata or {}
            version = facts.get(b"coretree.format", b"").decode()
            _check_format(version, where)
            batch = reader.read_next_batch()
        if version == "1":
            shapes = [[(field.name, json.loads(field.metadata[b"shape"]))] for field in schema]
        else:
            shapes = json.loads(facts[b"coretree.arrays"])
        arrays = [
            pair for column, of in zip(batch.columns, shapes, strict=True) for pair in _to_numpy(column.values, of)
        ]
        return dict(sorted(arrays)), json.loads(facts[b"coretree.metadata"])
    except (pa.ArrowException, ValueError, LookupError, TypeError, AttributeError, StopIteration) as error:
        # the checksum holds: somebody sealed something else
        raise DamagedNodeError(f"{where}: this is not an object that coretree stored: {error!r}. Delete it.") from error


def _check_format(version: str, where: str) -> None:
    if version not in READ:
        raise StoreError(
            f"{where}: the object has format {version!r}, but this version of coretree reads format {FORMAT} and older "
            f"ones. Update coretree to the version that wrote the tree, or build the tree again with this one."
        )


def _checked(data: bytes, where: str) -> memoryview:
    """Return the stream without its trailer, or say what is wrong with it."""
    stream, trailer = memoryview(data)[:-TRAILER_BYTES], data[-TRAILER_BYTES:]
    if len(data) < TRAILER_BYTES or not trailer.startswith(MAGIC):
        fault = f"it must end in {TRAILER_BYTES} bytes that start with {MAGIC!r}, but its {len(data):,} bytes do not"
    elif trailer[len(MAGIC) :] != hashlib.sha256(stream).digest():
        fault = f"its {len(data):,} bytes do not match their sha256 {trailer[len(MAGIC) :].hex()[:12]}…"
    else:
        return stream
    raise DamagedNodeError(
        f"{where}: the stored object is damaged or cut short: {fault}. "
        f"Delete this object and run 'coretree update' or the build again: only what is missing is computed. "
        f"'coretree tree verify' lists every damaged object."
    )


def _to_arrow(arrays: Mapping[str, npt.NDArray[Any]]) -> Any:
    """Return the values of arrays of one type, each in C order, as a flat Arrow array; a single one is not copied."""
    name, first = next(iter(arrays.items()))
    if first.dtype == object:
        return pa.array([value for name, array in arrays.items() for value in _texts(name, array)], pa.large_string())
    kind = first.dtype.newbyteorder("=")
    if kind != np.bool_ and kind not in _TO_ARROW:
        raise ValueError(
            f"array {name!r}: dtype {first.dtype} cannot be stored; it must be bool, an integer, float32, float64, "
            f"or object with str and None. Convert it with .astype(...)."
        )
    if len(arrays) == 1:
        flat = np.ascontiguousarray(first, dtype=kind).reshape(-1)
    else:
        flat = np.concatenate(list(arrays.values()), axis=None, dtype=kind)
    if kind == np.bool_:
        return pa.Array.from_buffers(pa.bool_(), flat.size, [None, pa.py_buffer(np.packbits(flat, bitorder="little"))])
    # from_buffers, not pa.array: the bits of a NaN survive, and none of them becomes a null
    return pa.Array.from_buffers(_TO_ARROW[kind], flat.size, [None, pa.py_buffer(flat)])


def _texts(name: str, array: npt.NDArray[Any]) -> list[str | None]:
    values: list[str | None] = array.ravel().tolist()
    if not all(issubclass(kind, str | type(None)) for kind in set(map(type, values))):
        wrong = next(value for value in values if value is not None and not isinstance(value, str))
        raise ValueError(f"array {name!r}: an object array must hold str and None only, found {wrong!r}.")
    return values


def _to_numpy(values: Any, shapes: Sequence[tuple[str, Sequence[int]]]) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """Yield the arrays of one column with their names: read-only views of its values."""
    kind = values.type
    if kind.id in _TO_NUMPY:
        flat: npt.NDArray[Any] = np.frombuffer(values.buffers()[1] or b"", _TO_NUMPY[kind.id], count=len(values))
    elif pa.types.is_boolean(kind):
        bits = np.frombuffer(values.buffers()[1] or b"", np.uint8)
        flat = np.unpackbits(bits, count=len(values), bitorder="little").view(np.bool_)
    elif pa.types.is_large_string(kind):
        coded = values.dictionary_encode()  # equal texts become one object
        texts = np.array([*coded.dictionary.to_pylist(), None], object)
        flat = texts[coded.indices.fill_null(len(texts) - 1).to_numpy()]
    else:
        raise ValueError(f"{kind} is no type that is stored.")
    flat.flags.writeable = False  # whether Arrow owns the memory or not: a stored node is a value
    stop = 0
    for name, shape in shapes:
        start, stop = stop, stop + math.prod(shape)
        yield name, flat[start:stop].reshape(shape)
    if stop != len(flat):
        raise ValueError(f"shapes of {stop} values do not fit a column of {len(flat)}.")
