from __future__ import annotations

import base64
import hashlib
import io
import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from coretree.errors import DamagedNodeError, StoreError
from coretree.tree.codec import FORMAT, MAGIC, TRAILER_BYTES, decode, encode
from coretree.tree.plan import JSON

Arrays = dict[str, npt.NDArray[Any]]

DTYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8"]
shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
numbers = st.sampled_from(DTYPES).flatmap(lambda code: hnp.arrays(np.dtype(code), shapes))
texts = hnp.arrays(object, shapes, elements=st.none() | st.text(max_size=5), fill=st.nothing())
SMALL: Arrays = {
    "X": np.arange(6, dtype=np.float32).reshape(2, 3),
    "kept": np.array([True, False, True]),
    "labels": np.array(["yes", None, "né"], object),
    "n_rows": np.array(12345),
}


def same(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> bool:
    """Equal in dtype, shape and bits."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return a.tolist() == b.tolist() if a.dtype == object else a.tobytes() == b.tobytes()


def reseal(stream: bytes) -> bytes:
    return stream + MAGIC + hashlib.sha256(stream).digest()


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=6), numbers | texts, max_size=4))
def test_round_trip(arrays: Arrays) -> None:
    data = encode(arrays, {"names": sorted(arrays)})
    back, metadata = decode(data, where="test")
    assert list(back) == sorted(arrays)
    assert metadata == {"names": sorted(arrays)}
    assert all(same(back[name], arrays[name]) for name in arrays)
    assert all(array.flags.c_contiguous and not array.flags.writeable for array in back.values())
    assert encode(back, metadata) == data


@pytest.mark.parametrize("code", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2), (2, 3, 4), (1000,)])
def test_every_type_and_shape(code: str, shape: tuple[int, ...]) -> None:
    bits = np.random.default_rng(0).integers(0, 256, (*shape, np.dtype(code).itemsize), np.uint8)
    array = (bits[..., 0] > 127) if code == "?" else bits.view(code)[..., 0]
    back = decode(encode({"a": np.asarray(array)}, {}), where="test")[0]["a"]
    assert same(back, np.asarray(array))


def test_nan_payloads_signed_zeros_and_denormals_survive() -> None:
    bits = np.array([0x7FF8000000000001, 0xFFF80000DEADBEEF, 0x7FF0000000000001, 1 << 63, 1, 0x7FF << 52], np.uint64)
    back = decode(encode({"a": bits.view(np.float64)}, {}), where="test")[0]["a"]
    assert back.view(np.uint64).tolist() == bits.tolist()


def test_layout_and_byte_order_are_normalised() -> None:
    array = np.arange(12.0).reshape(3, 4)
    variants = [array, np.asfortranarray(array), array[::-1][::-1], array.astype(">f8"), np.repeat(array, 2, 1)[:, ::2]]
    assert len({encode({"a": variant}, {}) for variant in variants}) == 1
    text = np.array([["a", "b"], [None, "d"]], object)
    assert encode({"a": text}, {}) == encode({"a": np.asfortranarray(text)}, {})


def test_equal_content_gives_equal_bytes() -> None:
    backwards = {name: SMALL[name].copy() for name in reversed(SMALL)}
    assert encode(SMALL, {"a": 1, "b": 2}) == encode(backwards, {"b": 2, "a": 1})
    assert encode(SMALL, {"a": 1}) != encode(SMALL, {"a": 2})


def test_inputs_are_not_changed_and_may_be_read_only() -> None:
    arrays = {name: array.copy() for name, array in SMALL.items()}
    for array in arrays.values():
        array.flags.writeable = False
    encode(arrays, {})
    assert all(same(arrays[name], SMALL[name]) for name in SMALL)


def test_metadata_is_json() -> None:
    metadata: dict[str, JSON] = {
        "n_rows": 2**60,
        "share": 0.1,
        "name": "é\u2028\ud800",
        "none": None,
        "nested": [{"a": [True]}],
    }
    assert decode(encode({}, metadata), where="test") == ({}, metadata)
    with pytest.raises(ValueError, match="JSON"):
        encode({}, {"share": float("nan")})


def test_any_arrow_reader_reads_it_as_it_is() -> None:
    large = np.arange(6000.0).reshape(2, 3000)
    data = encode({**SMALL, "Y": SMALL["X"][:1], "large": large}, {"n_rows": 3})
    table = pa.ipc.open_stream(io.BytesIO(data)).read_all()
    assert table.num_rows == 1
    assert table.column_names == ["f4", "b1", "O", "large", "i8"]
    assert table.column("f4").to_pylist() == [[0, 1, 2, 3, 4, 5, 0, 1, 2]]
    assert table.column("b1").to_pylist() == [[True, False, True]]
    assert table.column("O").to_pylist() == [["yes", None, "né"]]
    assert table.column("large").to_pylist() == [large.ravel().tolist()]
    facts = table.schema.metadata
    shapes = [
        [["X", [2, 3]], ["Y", [1, 3]]],
        [["kept", [3]]],
        [["labels", [3]]],
        [["large", [2, 3000]]],
        [["n_rows", []]],
    ]
    assert json.loads(facts[b"coretree.arrays"]) == shapes
    assert json.loads(facts[b"coretree.metadata"]) == {"n_rows": 3}
    assert facts[b"coretree.format"] == b"2"


def test_many_small_arrays_cost_few_bytes() -> None:
    many = {f"{i:02d}": np.full(3, float(i)) for i in range(99)}
    apart = sum(len(encode({name: array}, {})) for name, array in many.items())
    assert len(encode(many, {})) < 0.1 * apart


def test_an_array_may_have_the_name_of_a_shared_column() -> None:
    arrays = {
        "": np.arange(9000.0),
        "f8": np.arange(5000.0),
        "i4": np.zeros(5000),
        "x": np.ones(2),
        "y": np.ones((1, 2)),
    }
    back, _ = decode(encode(arrays, {}), where="test")
    assert list(back) == sorted(arrays)
    assert all(same(back[name], arrays[name]) for name in arrays)


def test_the_trailer_is_the_checksum_of_the_stream() -> None:
    data = encode(SMALL, {})
    assert TRAILER_BYTES == 40
    assert data[-40:-32] == b"coretree"
    assert data[-32:] == hashlib.sha256(data[:-40]).digest()


def test_buffers_are_compressed_and_decoded_without_a_copy() -> None:
    data = encode({"a": np.zeros(100_000), "b": np.arange(1000)}, {})
    assert len(data) < 20_000
    back = decode(data, where="test")[0]["a"]
    assert not back.flags.owndata


def test_any_flipped_bit_is_found() -> None:
    data = encode(SMALL, {"n_rows": 3})
    for i in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[i] ^= 1 << bit
            with pytest.raises(DamagedNodeError):
                decode(bytes(damaged), where="test")


def test_any_truncation_or_extension_is_found() -> None:
    data = encode(SMALL, {"n_rows": 3})
    for n_bytes in range(len(data)):
        with pytest.raises(DamagedNodeError):
            decode(data[:n_bytes], where="test")
    for longer in (data + b"\0", b"\0" + data, data + data[-40:], data + data):
        with pytest.raises(DamagedNodeError):
            decode(longer, where="test")


def test_damage_says_where_and_what_to_do() -> None:
    with pytest.raises(DamagedNodeError, match=r"^flights.tree/nodes/ab.*damaged.*Delete this object and run"):
        decode(b"<html>", where="flights.tree/nodes/ab")


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("table", [{}, {"a": [1]}, {"a": [[1.0, 2.0]]}, {"a": [[[1]]]}, {"a": []}])
def test_a_sealed_stranger_is_refused(table: dict[str, Any], version: str) -> None:
    facts = {"coretree.format": version, "coretree.arrays": '[[["a", [3]]]]'} | (
        {"coretree.metadata": "{}"} if table else {}
    )
    batch = pa.RecordBatch.from_pydict(table).replace_schema_metadata(facts)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        if table != {"a": []}:
            writer.write_batch(batch)
    with pytest.raises(DamagedNodeError, match="not an object that coretree stored"):
        decode(reseal(sink.getvalue().to_pybytes()), where="test")
    with pytest.raises(DamagedNodeError, match="not an object that coretree stored"):
        decode(reseal(b"no stream at all"), where="test")


def test_another_format_is_named() -> None:
    stream = encode(SMALL, {})[:-TRAILER_BYTES]
    assert FORMAT == 2
    key = stream.index(b"coretree.format")
    at = (
        stream.rindex(b"2\0\0\0", 0, key) if b"2\0\0\0" not in stream[key : key + 40] else stream.index(b"2\0\0\0", key)
    )
    newer = stream[:at] + b"3" + stream[at + 1 :]
    with pytest.raises(
        StoreError, match="format '3', but this version of coretree reads format 2 and older ones"
    ) as caught:
        decode(reseal(newer), where="test")
    assert not isinstance(caught.value, DamagedNodeError)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([1 + 2j]), "dtype complex128"),
        (np.array(["text"]), "dtype <U4"),
        (np.array(["2013-01-01"], "M8[D]"), "M8|datetime64"),
        (np.array([1.0], np.float16), "float16"),
        (np.array([1.0], np.longdouble), "longdouble|float128"),
        (np.array(["a", 1.5], object), "str and None only, found 1.5"),
        (np.array([b"a"], object), "found b'a'"),
        (np.array(["\ud800"], object), "surrogates"),
    ],
)
def test_other_types_are_refused_by_name(array: npt.NDArray[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode({"column": array}, {})


def test_the_first_format_is_read_for_good() -> None:
    """What this version wrote, every later version must read (never change these bytes)."""
    arrays, metadata = decode(base64.b85decode(WRITTEN), where="test")
    assert metadata == {"n_rows": 3}
    assert list(arrays) == sorted(SMALL)
    assert all(same(arrays[name], SMALL[name]) for name in SMALL)
    again, _ = decode(encode(arrays, metadata), where="test")
    assert all(same(again[name], SMALL[name]) for name in SMALL)


WRITTEN = (
    "|NsC000RI35C8xG000UA4gdxK1po*D3IG5A009I55C8xG000UA3;+NC1ONyC3IG5AbN~PV1ONa40ssI2KmY&$1ONa4wEh488~^|S1ONa43;+NCdm"
    "?UMa&LEYB04jD000005dZ)HV{dY0baG{7E^TFWVPs)+VE_OC?EU}$5C8xG1ONa40RR91F#rGn4*&oFV{dY0baG{7E@p3XZDDi(1ONa4xB&nF9033"
    "Tm;e9(1ONa4YX1NK0003M7ytkONB{r;2mk;87ytkO0RR91JOBUy1^@s6ZeMb5cXI#$0RR911ONa4T>k(65C8xG1ONa40ssI2TU`JE1poj5b7*03W"
    "dHyGQ2zh_O#c7>000335C8xGAOHXW1ONa4000001ONa4X>?_6000002mlNK2ml8F2mk;800001KmY&$`u_j_0003M7ytkONB{r;2mk;87ytkO0RR"
    "91JOBUy1^@s6Y++($Y;ynr0RR911ONa4?Ee4%5C8xG1ONa40{{R3TQgk%1poj5b7*03WdHyG;Qs&r-2VUn0003L5C8xG7ytkO1ONa4000001ONa4"
    "X>?_6000002><{8djJ3b0003M7ytkONB{r;2mk;87ytkO0RR91JOBUy1ONa4Yh`eB000000RR911ONa4Z2$lN5C8xG1ONa40{{R3TQgk%1poj5b7"
    "*03WdHyGVE_OBT>t<7000375C8xG8~^|S1ONa4000001ONa4X>?_6000001ONsA1ONa4000sI7yt+W1^@>D3;+NC5C9Ya5&!@I0003M7ytkOQ~&?"
    "~2mk;86aWAK0RR91SO5S30RR91SO5S30RR913;+NC2mlNK1ONyC2mk;86aWAK1ONa41poj5TQV#&T>t<81poj5b7*03WdHyG1ONm81ONa45C9Ya2"
    "ml5E2LKEJ000mG5C8xG000345C8xG8~^|S1ONa4000001ONa4X>?_6000I62ml5E1^@s600031|NsC000IC26aWAK000003;-Aa1^@*B2mlNK3;+"
    "NC00RU78~^|SU;zLC00000000003;-Sg5C8-K2mlNK3;+NCKmh;%Bme*a7ytkO0RR910000000000000I62ml8F1^@s6000015dZ)H0000000000"
    "00000000000000000000ApigX00000C;$Ke000000000000000C;$Ke00000DF6Tf00000SO5S3000000000000000SO5S300000ApigX00000fB"
    "*mh000000000000000fB*mh000005&!@I00000m;e9(000000000000000m;e9(00000ApigX00000zyJUM000005&!@I00000*Z=?k00000CIA2"
    "c0000000961000007XSbN000007y$qP0000000000000007y$qP00000ApigX00000Kmh;%000000000000000Kmh;%0000082|tP00000000002"
    "mk;80RR910000000000000001^@s60000000000000000RR910000000000000000{{R30000000000000000RR910000000000000000{{R3000"
    "000RR91000000RR910000000000000000RR910000000000000005C8xG00000D77#BAP|87000000000000sa60000000000000007ytkO00000"
    "D77#BAQ-^_000000001hKL7v#KmY(hKmY)MKmY)sKmY&$000005C8xG00000D77#BAP|87000000000000RI30000000000000000RR9100000D7"
    "7#BAOQ&g00jU5000005C8xG00000D77#BAP|87000000000000RI30000000000000000RR9100000D77#BAOQ&g00jU500000AOHXW00000D77#"
    "BARw&(0B`^R0{{a61^@s60000015^S40|5X41^@s600000D77#BAO<l20C{C|Zo{bn5C8xG00000D77#BAP|8700000000000096100000000000"
    "00002mk;800000D77#BAP7MK068!K000000000000000|NsC000000V{dY0baG{7MO)*d@72eecJxe{mm>MYAlL3M%axr0JIZ+JQ~~%C"
)
