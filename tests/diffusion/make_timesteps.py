"""Write tests/diffusion/timesteps.txt: diffusers' timesteps for every number of steps, as checksums.

The formulas are those of diffusers/schedulers/scheduling_ddpm.py (0.42), set_timesteps(), and need numpy alone.  A
line is: spacing, T, how many n of 1..T have a list of n entries, and the CRC-32 of all those lists one after the
other as little-endian 32-bit integers.  Run from anywhere."""

import pathlib
import zlib

import numpy as np


def leading(T, n):
    return (np.arange(0, n) * (T // n)).round()[::-1].copy().astype(np.int64)


def linspace(T, n):
    return np.linspace(0, T - 1, n).round()[::-1].copy().astype(np.int64)


def trailing(T, n):
    return np.round(np.arange(T, 0, -(T / n))).astype(np.int64) - 1


lines = []
for spacing in (leading, linspace, trailing):
    for T in (1, 2, 10, 50, 200, 999, 1000, 4000):
        lists = [t for n in range(1, T + 1) if len(t := spacing(T, n)) == n]
        crc = 0
        for t in lists:
            crc = zlib.crc32(t.astype("<i4").tobytes(), crc)
        lines.append(f"{spacing.__name__} {T} {len(lists)} {crc:08x}\n")
(pathlib.Path(__file__).parent / "timesteps.txt").write_text("".join(lines))
