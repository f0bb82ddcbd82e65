#!/usr/bin/env python3
"""Writes update_fixture.h: what PyTorch and diffusers make of 20 optimizer steps of a 7-parameter model
and of the time embedding.  Needs torch and diffusers.

    python3 tests/kernels/make_update_fixture.py > tests/kernels/update_fixture.h"""

import diffusers
import torch
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel

N, STEPS = 7, 20
LR, BETAS, EPS, DECAY, CLIP, EMA = 0.01, (0.9, 0.99), 1e-8, 0.1, 1.0, 0.6
WARMUP, TOTAL = 3, 20
TIMES = [0.0, 1.0, 37.5, 999.0]


def numbers(values, indent="    "):
    words = [f"{float(v):.9g}" for v in values]
    words = [w if "." in w or "e" in w else w + ".0" for w in words]
    return indent + ", ".join(w + "f" for w in words)


def table(name, size, rows):
    print(f"static const float {name}{size} = {{")
    for row in rows:
        print(f"    {{{numbers(row, '')}}},")
    print("};")


def scheduler(name, optimizer, warmup, total):
    return get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=total)


def train():
    torch.manual_seed(1)
    start = torch.randn(N)
    gradients = torch.randn(STEPS, N) * torch.logspace(-2, 1, STEPS)[torch.randperm(STEPS), None]
    w = torch.nn.Parameter(start.clone())
    optimizer = torch.optim.AdamW([w], lr=LR, betas=BETAS, eps=EPS, weight_decay=DECAY, foreach=False)
    lr = scheduler("cosine", optimizer, WARMUP, TOTAL)
    ema = EMAModel([w], decay=EMA)
    history = {"lr": [], "norm": [], "decay": [], "w": [], "ema": []}
    for g in gradients:
        w.grad = g.clone()
        history["norm"].append(torch.nn.utils.clip_grad_norm_([w], CLIP))
        history["lr"].append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        lr.step()
        ema.step([w])
        history["decay"].append(ema.cur_decay_value)
        history["w"].append(w.detach().clone())
        history["ema"].append(ema.shadow_params[0].clone())
    print(f"enum {{ FIXTURE_COUNT = {N}, FIXTURE_STEPS = {STEPS} }};")
    print("/* Adam and schedule of the run below: cosine, with EMAModel's own warm-up. */")
    print(f"static const double fixture_lr = {LR}, fixture_beta1 = {BETAS[0]}, fixture_beta2 = {BETAS[1]};")
    print(f"static const double fixture_eps = {EPS}, fixture_decay = {DECAY}, fixture_clip = {CLIP}, fixture_ema = {EMA};")
    print(f"enum {{ FIXTURE_WARMUP = {WARMUP}, FIXTURE_TOTAL = {TOTAL} }};")
    print("static const float fixture_start[FIXTURE_COUNT] = {\n" + numbers(start) + ",\n};")
    table("fixture_gradient", "[FIXTURE_STEPS][FIXTURE_COUNT]", gradients)
    print("/* after each step; scalars: learning rate, gradient norm, EMA decay */")
    table("fixture_scalars", "[FIXTURE_STEPS][3]", zip(history["lr"], history["norm"], history["decay"]))
    table("fixture_w", "[FIXTURE_STEPS][FIXTURE_COUNT]", history["w"])
    table("fixture_ema_w", "[FIXTURE_STEPS][FIXTURE_COUNT]", history["ema"])


def time_embedding():
    print("/* dim 8 at t = " + ", ".join(f"{t:g}" for t in TIMES) + ": sin first, freq_shift 1; then cos first, 0 */")
    rows = []
    for flip, shift in ((False, 1), (True, 0)):
        rows += get_timestep_embedding(torch.tensor(TIMES), 8, flip_sin_to_cos=flip, downscale_freq_shift=shift)
    print(f"static const float fixture_time[{len(TIMES)}] = {{\n{numbers(TIMES)},\n}};")
    table("fixture_embedding", f"[{2 * len(TIMES)}][8]", rows)


print(f"/* Written by make_update_fixture.py with torch {torch.__version__.split('+')[0]}, diffusers {diffusers.__version__}. */")
print("#ifndef DDPM_UPDATE_FIXTURE_H\n#define DDPM_UPDATE_FIXTURE_H\n")
train()
time_embedding()
print("\n#endif")
