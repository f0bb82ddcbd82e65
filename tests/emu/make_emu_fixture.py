#!/usr/bin/env python3
"""Writes emu_fixture.h: what PyTorch makes, in double, of small convolutions, a batch of products and
attention, and of their gradients.  Inputs are value() below; needs torch.

    python3 tests/emu/make_emu_fixture.py | clang-format >tests/emu/emu_fixture.h"""

import torch

torch.set_default_dtype(torch.float64)

# n, h, w, c, k, filter, stride, pad before, pad after
CONVS = [
    (2, 5, 4, 3, 5, 3, 1, 1, 1),
    (1, 6, 5, 4, 2, 3, 2, 0, 1),
    (2, 5, 3, 2, 3, 3, 2, 1, 1),
    (2, 3, 2, 5, 4, 1, 1, 0, 0),
    (1, 6, 4, 3, 2, 4, 2, 1, 1),
]
GEMM = (2, 3, 4, 5)  # batch, m, n, k
ATTENTION = (2, 5, 2, 8)  # n, s, heads, d
X, W, DY, A, B, QKV, DOUT = range(7)


def value(salt, *shape):
    """Multiples of 1/8 up to 1: exact in bf16, and so are their sums of products in float."""
    i = torch.arange(torch.Size(shape).numel())
    return (((i * 7 + i // 5 + salt * 13) % 17 - 8) / 8.0).reshape(shape)


def table(name, t):
    words = [repr(float(v)) for v in t.detach().reshape(-1)]
    print(f"static const double {name}[] = {{")
    for i in range(0, len(words), 6):
        print("    " + ", ".join(words[i : i + 6]) + ",")
    print("};")


def conv(i, n, h, w, c, k, size, stride, before, after):
    x = value(X, n, h, w, c).requires_grad_()
    f = value(W, k, size, size, c).requires_grad_()
    padded = torch.nn.functional.pad(x.permute(0, 3, 1, 2), (before, after, before, after))
    y = torch.nn.functional.conv2d(padded, f.permute(0, 3, 1, 2), stride=stride).permute(0, 2, 3, 1)
    y.backward(value(DY, *y.shape))
    table(f"conv{i}_y", y)
    table(f"conv{i}_dx", x.grad)
    table(f"conv{i}_dw", f.grad)
    return y.shape[1], y.shape[2]


def attention(n, s, heads, d):
    qkv = value(QKV, n, s, 3, heads, d).requires_grad_()
    q, k, v = (qkv[:, :, i].transpose(1, 2) for i in range(3))
    y = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
    y.backward(value(DOUT, n, s, heads, d))
    table("attention_y", y)
    table("attention_lse", torch.logsumexp(q @ k.transpose(2, 3) / d**0.5, -1))
    table("attention_dqkv", qkv.grad)


def main():
    print(f"/* Written by make_emu_fixture.py with torch {torch.__version__.split('+')[0]}. */")
    print("#ifndef DDPM_EMU_FIXTURE_H\n#define DDPM_EMU_FIXTURE_H\n")
    sizes = [conv(i, *c) for i, c in enumerate(CONVS)]
    print("struct conv_fixture {\n    int n, h, w, c, k, filter, stride, before, after, oh, ow;")
    print("    const double *y, *dx, *dw;\n};")
    print("static const conv_fixture conv_fixtures[] = {")
    for i, c in enumerate(CONVS):
        print("    {" + ", ".join(map(str, c + sizes[i])) + f", conv{i}_y, conv{i}_dx, conv{i}_dw}},")
    print("};")
    batch, m, n, k = GEMM
    print(f"enum {{ GEMM_BATCH = {batch}, GEMM_M = {m}, GEMM_N = {n}, GEMM_K = {k} }};")
    table("gemm_d", value(A, batch, m, k) @ value(B, batch, k, n))
    n, s, heads, d = ATTENTION
    print(f"enum {{ ATTENTION_N = {n}, ATTENTION_S = {s}, ATTENTION_HEADS = {heads}, ATTENTION_D = {d} }};")
    attention(n, s, heads, d)
    print("\n#endif")


main()
