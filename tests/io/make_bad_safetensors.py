"""Write tests/io/bad/*.safetensors, one fault each, and bad/expected.txt: file, tab, words of the message.

Plain Python: no library that would refuse to write them.  Run from anywhere."""

import json
import pathlib
import struct

OUT = pathlib.Path(__file__).parent / "bad"
cases = []


def raw(name, data, words):
    cases.append((name, bytes(data), words))


def file(name, header, data=b"", words=""):
    """`header` as text, bytes, or an object for json."""
    if not isinstance(header, (str, bytes)):
        header = json.dumps(header, separators=(",", ":"))
    if isinstance(header, str):
        header = header.encode()
    raw(name, struct.pack("<Q", len(header)) + header + data, words)


def tensor(dtype="F32", shape=(2,), offsets=(0, 8), **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}


EIGHT = b"\0" * 8
GOOD = json.dumps({"a": tensor()}, separators=(",", ":"))

# the container
raw("empty", b"", "too short")
raw("seven_bytes", b"\x02\0\0\0\0\0\0", "too short")
raw("length_only", struct.pack("<Q", 2), "too short")
raw("length_zero", struct.pack("<Q", 0) + b"{}", "outside 2 to 100000000")
raw("length_one", struct.pack("<Q", 1) + b"{}", "outside 2 to 100000000")
raw("length_over_the_limit", struct.pack("<Q", 100000001) + b"{}", "outside 2 to 100000000")
raw("length_huge", struct.pack("<Q", 2**64 - 1) + b"{}", "outside 2 to 100000000")
raw("length_beyond_the_file", struct.pack("<Q", 3) + b"{}", "more than the file of")
raw("length_at_the_limit", struct.pack("<Q", 100000000) + b"{}", "more than the file of")
raw("header_cut_off", struct.pack("<Q", len(GOOD)) + GOOD[:-4].encode(), "more than the file of")
raw("a_pickle", b"\x80\x02}q\0X\x06\0\0\0weightq\x01." + b"\0" * 40, "not a safetensors file")
raw("a_png", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "not a safetensors file")

# the JSON
file("begins_with_blank", " " + GOOD, EIGHT, "does not begin with '{'")
file("an_array", "[]", b"", "does not begin with '{'")
file("unclosed", GOOD[:-1], EIGHT, "not valid JSON")
file("trailing_text", GOOD + "x", EIGHT, "not valid JSON")
file("two_objects", GOOD + "{}", EIGHT, "not valid JSON")
file("duplicate_name", GOOD[:-1] + "," + GOOD[1:], EIGHT, "duplicate")
file("duplicate_key", '{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', EIGHT, "duplicate")
file("bad_utf8", b'{"\xff\xfe":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', EIGHT, "not valid JSON")
file("nul_in_name", '{"a\\u0000":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', EIGHT, "not valid JSON")
file("raw_nul", b'{"a\0":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', EIGHT, "not valid JSON")
file("nested_deep", '{"a":' + "[" * 3000 + "]" * 3000 + "}", b"", "not valid JSON")
file("leading_zero", '{"a":{"dtype":"F32","shape":[02],"data_offsets":[0,8]}}', EIGHT, "not valid JSON")
file("beyond_64_bits", '{"a":{"dtype":"F32","shape":[18446744073709551618],"data_offsets":[0,8]}}', EIGHT, "not valid JSON")
file("not_a_number", '{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}', EIGHT, "not valid JSON")

# between the members, where this reader goes by itself
file("comma_at_the_end", GOOD[:-1] + ",}", EIGHT, "not valid JSON")
file("comma_twice", GOOD[:-1] + ",," + GOOD[1:], EIGHT, "not valid JSON")
file("comma_first", "{," + GOOD[1:], EIGHT, "not valid JSON")
file("comma_missing", GOOD[:-1] + " " + GOOD[1:], EIGHT, "not valid JSON")
file("colon_missing", GOOD.replace(":", " ", 1), EIGHT, "not valid JSON")
file("value_missing", '{"a":}', b"", "not valid JSON")
file("key_without_quotes", GOOD.replace('"a"', "a"), EIGHT, "not valid JSON")
file("key_not_closed", '{"a', b"", "not valid JSON")
file("escape_at_the_end", '{"a\\', b"", "not valid JSON")
file("bracket_of_another_kind", GOOD.replace("[2]", "[2}"), EIGHT, "not valid JSON")
file("two_values", '{"a":{} {}}', b"", "not valid JSON")
file("object_too_long", GOOD.replace("[2]", "[2" + " " * 9000 + "]"), EIGHT, "at most 8192 are supported")
file("name_too_long", GOOD.replace('"a"', '"' + "a" * 9000 + '"'), EIGHT, "at most 8192 are supported")
file("metadata_not_closed", '{"__metadata__":{"a":"b"', b"", "not valid JSON")
file("metadata_comma_at_the_end", '{"__metadata__":{"a":"b",}}', b"", "not valid JSON")
file("metadata_bad_text", '{"__metadata__":{"a":"\\q"}}', b"", "not valid JSON")

# a tensor
file("tensor_is_text", {"a": "F32"}, b"", "a: not a JSON object")
file("no_dtype", {"a": {"shape": [2], "data_offsets": [0, 8]}}, EIGHT, "dtype must be a string")
file("dtype_number", {"a": tensor(dtype=32)}, EIGHT, "dtype must be a string")
file("dtype_unknown", {"a": tensor(dtype="F8_E4M3")}, EIGHT, "dtype 'F8_E4M3' is not supported")
file("dtype_lower_case", {"a": tensor(dtype="f32")}, EIGHT, "dtype 'f32' is not supported")
file("no_shape", {"a": {"dtype": "F32", "data_offsets": [0, 8]}}, EIGHT, "shape must be an array")
file("shape_number", {"a": {"dtype": "F32", "shape": 2, "data_offsets": [0, 8]}}, EIGHT, "shape must be an array")
file("rank_nine", {"a": tensor(shape=[1] * 8 + [2])}, EIGHT, "9 dimensions, at most 8")
file("dimension_negative", {"a": tensor(shape=[-2])}, EIGHT, "dimension 0 is not a non-negative integer")
file("dimensions_negative_twice", {"a": tensor(shape=[-1, -2])}, EIGHT, "dimension 0 is not a non-negative integer")
file("dimension_real", {"a": tensor(shape=[1, 2.0])}, EIGHT, "dimension 1 is not a non-negative integer")
file("dimension_text", {"a": tensor(shape=["2"])}, EIGHT, "dimension 0 is not a non-negative integer")

# public exploit of a C++ reader: a product of dimensions that wraps around to 4
file("product_wraps_to_four", {"a": tensor(shape=[4, 2**62 + 1, 1], offsets=[0, 16])}, b"\0" * 16, "product of the shape overflows")
file("product_wraps_to_zero", {"a": tensor(shape=[2**32, 2**32], offsets=[0, 0])}, b"", "product of the shape overflows")
file("bytes_wrap", {"a": tensor(shape=[2**62 + 2], offsets=[0, 8])}, EIGHT, "product of the shape overflows")
file("overflow_before_zero", {"a": tensor(shape=[2**62, 2**62, 0], offsets=[0, 0])}, b"", "product of the shape overflows")

# places
file("no_offsets", {"a": {"dtype": "F32", "shape": [2]}}, EIGHT, "data_offsets must be two non-negative integers")
file("offsets_one", {"a": tensor(offsets=[8])}, EIGHT, "data_offsets must be two non-negative integers")
file("offsets_three", {"a": tensor(offsets=[0, 8, 8])}, EIGHT, "data_offsets must be two non-negative integers")
file("offsets_negative", {"a": tensor(offsets=[-8, 0])}, EIGHT, "data_offsets must be two non-negative integers")
file("offsets_backwards", {"a": tensor(offsets=[8, 0])}, EIGHT, "end before they begin")
# the other public exploit: the end of the range is not checked against the file
file("ends_beyond_the_file", {"a": tensor(shape=[2**20], offsets=[0, 2**22])}, EIGHT, "end beyond the 8 data bytes")
file("ends_one_beyond", {"a": tensor(dtype="U8", shape=[9], offsets=[0, 9])}, EIGHT, "end beyond the 8 data bytes")
file("begins_beyond_the_file", {"a": tensor(shape=[0], offsets=[2**40, 2**40])}, EIGHT, "end beyond the 8 data bytes")
file("data_cut_off", {"a": tensor(shape=[4], offsets=[0, 16])}, b"\0" * 15, "end beyond the 15 data bytes")
file("range_too_long", {"a": tensor(shape=[1])}, EIGHT, "require 4 bytes, data_offsets span 8")
file("range_too_short", {"a": tensor(shape=[3])}, EIGHT, "require 12 bytes, data_offsets span 8")
file("overlap", {"a": tensor(), "b": tensor(offsets=[4, 12])}, b"\0" * 12, "b: overlaps")
file("same_place_twice", {"a": tensor(), "b": tensor()}, EIGHT, "overlaps")
file("gap_at_the_start", {"a": tensor(offsets=[4, 12])}, b"\0" * 12, "a: a gap")
file("gap_between", {"a": tensor(), "b": tensor(offsets=[12, 20])}, b"\0" * 20, "b: a gap")
file("bytes_left_over", {"a": tensor()}, b"\0" * 9, "1 unused bytes after the last tensor")
file("data_without_tensors", "{}", EIGHT, "8 unused bytes after the last tensor")

# metadata
file("metadata_text", {"__metadata__": "pt", "a": tensor()}, EIGHT, "__metadata__ must be an object")
file("metadata_number", {"__metadata__": {"step": 3}, "a": tensor()}, EIGHT, "__metadata__: step must be a string")

OUT.mkdir(exist_ok=True)
for name, data, _ in cases:
    (OUT / f"{name}.safetensors").write_bytes(data)
(OUT / "expected.txt").write_text("".join(f"{name}.safetensors\t{words}\n" for name, _, words in cases))
print(len(cases), "files")
