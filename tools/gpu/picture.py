"""picture.py - how far two sets of PNG files are apart; just what our own program writes: 8 bits a value."""

import struct
import zlib


def paeth(a, b, c):
    p = a + b - c
    pa, pb, pc = abs(p - a), abs(p - b), abs(p - c)
    return a if pa <= pb and pa <= pc else b if pb <= pc else c


def unfilter(kind, line, above, step):
    for i in range(len(line)):
        a = line[i - step] if i >= step else 0
        b = above[i]
        c = above[i - step] if i >= step else 0
        line[i] = (line[i] + (0, a, b, (a + b) // 2, paeth(a, b, c))[kind]) & 255
    return line


def read(path):
    """(width, height, channels, values)"""
    with open(path, "rb") as f:
        data = f.read()
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError(f"{path}: no PNG")
    at, packed = 8, b""
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + size]
        at += size + 12
        if kind == b"IHDR":
            width, height, bits, colour, _, _, interlace = struct.unpack(">IIBBBBB", body)
            if bits != 8 or interlace or colour not in (0, 2):
                raise ValueError(f"{path}: not 8-bit grey or colour")
        elif kind == b"IDAT":
            packed += body
    channels = 3 if colour == 2 else 1
    raw, stride = zlib.decompress(packed), width * channels
    above, values = bytearray(stride), bytearray()
    for y in range(height):
        begin = y * (stride + 1)
        above = unfilter(raw[begin], bytearray(raw[begin + 1 : begin + 1 + stride]), above, channels)
        values += above
    return width, height, channels, bytes(values)


def difference(ours, theirs):
    """(mean, largest) difference of all values, in 255ths; (255, 255) where shapes differ."""
    total = count = most = 0
    for a, b in zip(ours, theirs):
        x, y = read(a), read(b)
        if x[:3] != y[:3]:
            return 255.0, 255
        apart = [abs(p - q) for p, q in zip(x[3], y[3])]
        total, count, most = total + sum(apart), count + len(apart), max(most, max(apart))
    return (total / count if count else 255.0), most
