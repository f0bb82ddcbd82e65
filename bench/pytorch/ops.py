#!/usr/bin/env python3
"""ops.py MB.json [--out FILE]: PyTorch on the shapes of `mb conv` or `mb norm`, beside what those found.

conv: F.conv2d and its two gradients in channels_last, with cudnn.benchmark trying 10 plans (its default)
and all.  norm: GroupNorm + SiLU, forward and backward, under torch.compile.
"""

import argparse
import json
import math
import sys

import torch
import torch.nn.functional as F

TYPES = {"bf16": torch.bfloat16, "f32": torch.float32, "tf32": torch.float32}


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("result")
    p.add_argument("--out", default="")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--repeats", type=int, default=20)
    return p.parse_args()


def time_ms(o, call, sets):
    """Median of one call on each of the sets by turns; as a graph, so that launching costs nothing."""
    import time

    def all_sets():
        for s in sets:
            call(*s)

    for _ in range(2):
        all_sets()
    if o.device != "cuda":
        begin = time.perf_counter()
        all_sets()
        return 1e3 * (time.perf_counter() - begin) / len(sets)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        all_sets()
    graph.replay()
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(o.repeats + 1)]
    marks[0].record()
    for mark in marks[1:]:
        graph.replay()
        mark.record()
    torch.cuda.synchronize()
    times = sorted(a.elapsed_time(b) / len(sets) for a, b in zip(marks, marks[1:]))
    return times[len(times) // 2]


def copies(o, tensors):
    """So many sets that they exceed the cache together."""
    each = sum(t.numel() * t.element_size() for t in tensors)
    cache = torch.cuda.get_device_properties(0).L2_cache_size if o.device == "cuda" else 0
    n = max(1, min(16, math.ceil(3 * cache / each)))
    return [tensors] + [[t.clone(memory_format=torch.preserve_format) for t in tensors] for _ in range(n - 1)]


def conv_call(q):
    n, h, w, c, oh, ow, k, f, stride, before, after = q["shape"]
    # cuDNN pads both sides alike: where ours pads one, PyTorch pads with a copy, which is not timed here.
    if before != after:
        h, w, before = h + after, w + after, 0
    x = (n, c, h, w)
    weight = (k, c, f, f)

    def call(a, b):
        if q["pass"] == "forward":
            return F.conv2d(a, b, None, stride, before)
        given = (
            (a, torch.empty(x, device=a.device, dtype=a.dtype, memory_format=torch.channels_last), b)
            if q["pass"] == "data"
            else (a, b, torch.empty(weight, device=a.device, dtype=a.dtype))
        )
        mask = [q["pass"] == "data", q["pass"] == "filter", False]
        return torch.ops.aten.convolution_backward(
            *given, None, [stride] * 2, [before] * 2, [1, 1], False, [0, 0], 1, mask
        )

    y = (n, k, oh, ow)
    return call, {"forward": (x, weight), "data": (y, weight), "filter": (y, x)}[q["pass"]]


def conv(o, problem):
    call, shapes = conv_call(problem)
    dtype = TYPES[problem["type"]]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = problem["type"] != "f32"
    tensors = [torch.randn(s, device=o.device).to(dtype).to(memory_format=torch.channels_last) for s in shapes]
    sets = copies(o, tensors)
    n, _, _, c, oh, ow, k, f = problem["shape"][:8]
    found = {}
    for limit in (10, 0):
        torch.backends.cudnn.benchmark, torch.backends.cudnn.benchmark_limit = True, limit
        ms = time_ms(o, call, sets)
        found[f"pytorch_limit{limit}_tflops"] = 2e-9 * n * oh * ow * k * c * f * f / ms
    return found


def norm(o, row, dtype):
    shape, _, flags = row["shape"].partition(" ")
    n, h, w, both = shape.split("x")
    c = sum(int(v) for v in both.split("+"))
    silu = "silu" in flags
    weight, bias = (torch.randn(c, device=o.device, requires_grad=True) for _ in range(2))

    def forward(x):
        y = F.group_norm(x, math.gcd(32, c), weight.to(x.dtype), bias.to(x.dtype), 1e-6)
        return F.silu(y) if silu else y

    compiled = torch.compile(forward)
    x = torch.randn(int(n), c, int(h), int(w), device=o.device).to(dtype).to(memory_format=torch.channels_last)
    dy = torch.randn_like(x)
    sets = copies(o, [x, dy])

    def both_ways(a, b):
        a = a.detach().requires_grad_(True)
        torch.autograd.grad(compiled(a), (a, weight, bias), b)

    with torch.no_grad():
        ahead = time_ms(o, lambda a, b: compiled(a), sets)
    total = time_ms(o, both_ways, sets)
    return {"pytorch_forward_ms": ahead, "pytorch_backward_ms": total - ahead}


def main():
    o = arguments()
    with open(o.result) as f:
        found = json.load(f)
    dtype = torch.bfloat16 if " bf16" in found.get("device", "") else torch.float32
    bad = 0
    for row in found.get("problems", found.get("rows", [])):
        try:
            row.update(conv(o, row) if "problem" in row else norm(o, row, dtype))
        except RuntimeError as e:  # out of memory, no such plan: the other shapes are still worth knowing
            row["pytorch_error"] = str(e).splitlines()[0]
            bad += 1
        print(
            row.get("problem", row.get("shape")),
            {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items() if k.startswith("pytorch")},
            flush=True,
        )
        if o.out:
            with open(o.out, "w") as f:
                json.dump(found, f, indent=1)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
