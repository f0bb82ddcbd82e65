#!/usr/bin/env python3
"""Makes fixtures/: small images of every kind, and what Pillow reads from them.

NAME.png / NAME.jpg     the image
NAME.png.ppm (or .pgm)  its pixels, as the library must read them
resize_HxW.png          resize.png as torchvision's Resize + CenterCrop would have it
odd_*                   breaks a rule, and is read all the same
bad_*                   must be refused

Needs Pillow and numpy.  The fixtures are kept in the repository; run this only to change them.
"""
import io
import pathlib
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

OUT = pathlib.Path(__file__).parent / "fixtures"
H, W = 7, 13
rng = np.random.default_rng(1)


def smooth(h, w, c):
    """A picture with edges and slopes, so that resampling and colour conversion have something to get wrong."""
    y, x = np.mgrid[0:h, 0:w]
    planes = [127 + 100 * np.sin(x / (3.0 + k) + k) * np.cos(y / (2.0 + k)) + 28 * ((x + k * y) % 5 == 0) for k in range(c)]
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def pack_rows(samples, depth):
    """[h, w, c] samples to PNG scanlines with filter 0."""
    h = samples.shape[0]
    rows = samples.reshape(h, -1)
    if depth == 16:
        rows = rows.astype(">u2").view(np.uint8).reshape(h, -1)
    elif depth < 8:
        bits = np.unpackbits(rows.astype(np.uint8)[..., None], axis=-1)[..., 8 - depth:].reshape(h, -1)
        rows = np.packbits(bits, axis=-1)
    return b"".join(b"\0" + r.astype(np.uint8).tobytes() for r in rows)


ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


def png(samples, colour, depth, interlace=False, before=b"", after=b""):
    h, w = samples.shape[:2]
    passes = [samples[y::dy, x::dx] for y, x, dy, dx in ADAM7] if interlace else [samples]
    raw = b"".join(pack_rows(p, depth) for p in passes if p.size)
    head = struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, int(interlace))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + before + chunk(b"IDAT", zlib.compress(raw)) + after
            + chunk(b"IEND", b""))


def write(name, data):
    (OUT / name).write_bytes(data)


def expect(name, pixels):
    grey = pixels.ndim == 2
    head = b"P%d\n%d %d\n255\n" % (5 if grey else 6, pixels.shape[1], pixels.shape[0])
    write(name + (".pgm" if grey else ".ppm"), head + np.ascontiguousarray(pixels, np.uint8).tobytes())


def expect_pillow(name, data):
    img = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    expect(name, np.array(img.convert("L" if img.mode in ("1", "L", "LA") else "RGB")))


def both(name, data):
    write(name, data)
    expect_pillow(name, data)


def make_png():
    GREY, RGB, PALETTE, GREY_A, RGB_A = 0, 2, 3, 4, 6
    for depth in (1, 2, 4, 8):
        for interlace in (False, True):
            tail = "_interlaced" if interlace else ""
            both(f"grey{depth}{tail}.png", png(smooth(H, W, 1) >> (8 - depth), GREY, depth, interlace))
    both("rgb8.png", png(smooth(H, W, 3), RGB, 8))
    both("rgb8_interlaced.png", png(smooth(H, W, 3), RGB, 8, True))
    both("rgba8.png", png(smooth(H, W, 4), RGB_A, 8))
    both("rgba8_interlaced.png", png(smooth(H, W, 4), RGB_A, 8, True))
    both("greya8.png", png(smooth(H, W, 2), GREY_A, 8))
    wide = rng.integers(0, 65536, (H, W, 4))
    both("rgb16.png", png(wide[..., :3], RGB, 16))
    both("rgba16.png", png(wide, RGB_A, 16))
    for name, colour, c in (("grey16.png", GREY, 1), ("greya16.png", GREY_A, 2)):
        write(name, png(wide[..., :c], colour, 16))
        expect(name, wide[..., 0] >> 8)  # Pillow saturates 16-bit grey at 255, so its own rule for RGB is used
    palette = rng.integers(0, 256, (16, 3), dtype=np.uint8)
    plte = chunk(b"PLTE", palette.tobytes())
    index = smooth(H, W, 1) >> 4
    both("palette4.png", png(index, PALETTE, 4, before=plte))
    both("palette8.png", png(index, PALETTE, 8, before=plte))
    both("palette8_alpha.png", png(index, PALETTE, 8, True, before=plte + chunk(b"tRNS", bytes(range(0, 256, 16)))))
    both("grey8_alpha.png", png(smooth(H, W, 1), GREY, 8, before=chunk(b"tRNS", b"\0\x7f")))
    both("rgb8_alpha.png", png(smooth(H, W, 3), RGB, 8, before=chunk(b"tRNS", b"\0\1\0\2\0\3")))
    both("rgb8_side_chunks.png", png(smooth(H, W, 3), RGB, 8, before=chunk(b"gAMA", struct.pack(">I", 100000))
         + chunk(b"tEXt", b"Title\0none") + chunk(b"sRGB", b"\0")))
    both("one.png", png(smooth(1, 1, 3), RGB, 8))
    exif = Image.Exif()
    exif[0x0112] = 6
    both("exif6.png", png(smooth(H, W, 3), RGB, 8, before=chunk(b"eXIf", exif.tobytes()[6:])))


def jpeg(pixels, **kw):
    out = io.BytesIO()
    Image.fromarray(pixels if pixels.shape[-1] > 1 else pixels[..., 0]).save(out, "JPEG", **kw)
    return out.getvalue()


def make_jpeg():
    both("grey.jpg", jpeg(smooth(H, W, 1), quality=90))
    both("one.jpg", jpeg(smooth(1, 1, 3), quality=90))
    both("rgb444.jpg", jpeg(smooth(H, W, 3), quality=90, subsampling=0))
    both("rgb420.jpg", jpeg(smooth(19, 33, 3), quality=80, subsampling=2))
    both("progressive.jpg", jpeg(smooth(19, 33, 3), quality=80, progressive=True))
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x010f] = "maker"
        exif[0x0112] = orientation
        both(f"exif{orientation}.jpg", jpeg(smooth(H, W, 3), quality=90, exif=exif.tobytes()))
    intel = b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\x01\3\0\1\0\0\0\x08\0\0\0\0\0\0\0"  # Pillow writes big-endian blocks
    both("exif8_little_endian.jpg", jpeg(smooth(H, W, 3), quality=90, exif=intel))


def with_scan_parameters(data, first, last, bits):
    """Spectral selection and successive approximation of the first scan; a sequential decoder has no use for them."""
    at = data.index(b"\xff\xda")
    end = at + 2 + struct.unpack(">H", data[at + 2: at + 4])[0]
    return data[: end - 3] + bytes([first, last, bits]) + data[end:]


def make_odd():
    """JPEG files that break the rules and cost no pixel: Pillow reads from each what the file that it was made of holds."""
    pixels = smooth(19, 33, 3)
    plain, intervals = jpeg(pixels, quality=85), jpeg(pixels, quality=85, restart_marker_blocks=2)
    scan, table, rst = plain.index(b"\xff\xda"), plain.index(b"\xff\xdb"), intervals.index(b"\xff\xd0")
    adobe = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0"
    jfif = plain.index(b"JFIF")
    odd = {
        "scan_parameters": with_scan_parameters(plain, 0, 0, 0),
        "scan_bits": with_scan_parameters(plain, 0, 63, 0x11),
        "junk_before_table": plain[:table] + b"junk" + plain[table:],
        "junk_before_scan": plain[:scan] + b"junk" + plain[scan:],
        "fill_before_scan": plain[:scan] + b"\xff\xff\xff" + plain[scan:],
        "junk_before_end": plain[:-2] + b"junk" + plain[-2:],
        "junk_behind_end": plain + b"junk\xff\xd8\xff" * 9,
        "zeros_for_end": plain[:-2] + bytes(16),
        "junk_before_restart": intervals[:rst] + b"\x12\x34\x56" + intervals[rst:],
        "wrong_restart": intervals[: rst + 1] + b"\xd3" + intervals[rst + 2:],
        "jfif2": plain[: jfif + 5] + b"\2" + plain[jfif + 6:],
        "adobe5": plain[:2] + adobe + b"\5" + plain[2:],
        "no_jfif": plain[:2] + plain[20:],
        "two_oddities": with_scan_parameters(plain, 0, 0, 0)[:-2] + b"junk" + plain[-2:],
    }
    for name, data in odd.items():
        assert np.array_equal(*(np.array(Image.open(io.BytesIO(d)).convert("RGB")) for d in
                                (data, intervals if "restart" in name else plain))), name
        both(f"odd_{name}.jpg", data)
    two = bytearray(with_scan_parameters(plain, 0, 0, 0))  # the first remark is harmless, the second is not
    write("bad_second.jpg", bytes(two[: len(two) * 2 // 3]) + b"\xff\xd9")
    second = intervals.index(b"\xff\xd1")
    write("bad_restart.jpg", intervals[:rst] + intervals[second:])


def make_cmyk():
    inks = io.BytesIO()
    Image.fromarray(smooth(H, W, 3)).convert("CMYK").save(inks, "JPEG", quality=90)
    both("cmyk.jpg", inks.getvalue())
    ycck = bytearray(inks.getvalue())
    ycck[ycck.index(b"Adobe") + 11] = 2  # the transform byte of APP14
    both("ycck.jpg", bytes(ycck))


def make_bad():
    good = png(smooth(64, 64, 3), 2, 8)
    write("bad_truncated.png", good[: len(good) * 2 // 3])
    write("bad_no_end.png", good[:-12])
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    write("bad_bit.png", bytes(flipped))
    for name, w, h in (("side", 2**31 - 1, 1), ("area", 16384, 16384), ("promise", 8000, 8000), ("zero", 0, 5), ("wide", 20000, 4)):
        head = struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0)
        write(f"bad_{name}.png", b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100))
              + chunk(b"IEND", b""))
    picture = jpeg(smooth(64, 64, 3), quality=90)
    write("bad_truncated.jpg", picture[: len(picture) * 2 // 3])
    sof = picture.index(b"\xff\xc0")
    write("bad_side.jpg", picture[: sof + 5] + struct.pack(">HH", 65500, 65500) + picture[sof + 9:])
    write("bad_promise.jpg", picture[: sof + 5] + struct.pack(">HH", 8000, 8000) + picture[sof + 9:])
    write("bad_header.jpg", picture[:40])
    write("bad_empty.png", b"")
    write("bad_text.jpg", b"this is no picture\n")
    gif = io.BytesIO()
    Image.fromarray(smooth(H, W, 1)[..., 0]).save(gif, "GIF")
    write("bad_gif.png", gif.getvalue())


def resize(img, h, w):
    """torchvision.transforms Resize (shorter side) + CenterCrop on a Pillow image, for any h x w that is covered."""
    iw, ih = img.size
    nh, nw = (int(ih * w / iw), w) if ih * w >= iw * h else (h, int(iw * h / ih))
    # rows, then columns, as Pillow always did before version 13, which now and then starts with the columns
    img = img.resize((nw, ih), Image.Resampling.BILINEAR).resize((nw, nh), Image.Resampling.BILINEAR)
    top, left = int(round((nh - h) / 2.0)), int(round((nw - w) / 2.0))
    return img.crop((left, top, left + w, top + h))


def make_resize():
    for name, h, w, c in (("wide", 23, 37, 3), ("tall", 61, 24, 1), ("strip", 3, 300, 3)):
        pixels = smooth(h, w, c)
        img = Image.fromarray(pixels if c > 1 else pixels[..., 0])
        img.save(OUT / f"resize_{name}.png")
        for th, tw in ((8, 8), (16, 16), (23, 23), (32, 32), (10, 21), (50, 19)):
            resize(img, th, tw).save(OUT / f"resize_{name}_{th}x{tw}.png")
    wide = Image.fromarray(smooth(23, 37, 3))
    wide.convert("L").save(OUT / "resize_wide_grey.png")


OUT.mkdir(exist_ok=True)
for old in OUT.iterdir():
    old.unlink()
make_png()
make_jpeg()
make_odd()
make_cmyk()
make_bad()
make_resize()
