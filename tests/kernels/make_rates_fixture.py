#!/usr/bin/env python3
"""Writes rates_fixture.h: what diffusers makes of its seven learning-rate schedules and of the decays of its EMAModel,
and PyTorch of 50 steps of Adam and AdamW, of which the 1-D parameters do not decay.  Needs torch and diffusers.

    python3 tests/kernels/make_rates_fixture.py > tests/kernels/rates_fixture.h"""

import textwrap

import diffusers
import torch
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel

PEAK, WARMUP, TOTAL, STEPS = 1e-3, 10, 100, 150
RULES = "1:10,0.1:20,0.01:100,0.005"
SCHEDULES = [("constant", {}), ("constant_with_warmup", {}), ("linear", {}), ("cosine", {}),
             ("cosine_with_restarts", {"num_cycles": 3}), ("polynomial", {"power": 1.5}),
             ("piecewise_constant", {"step_rules": RULES})]
DECAY, MIN_DECAY, AFTER, INV_GAMMA, POWER, UPDATES = 0.9, 0.3, 3, 2.0, 0.6, 100
LR, BETAS, EPS, WEIGHT_DECAY, MATRIX, VECTOR, SHOWN = 0.01, (0.9, 0.99), 1e-8, 0.1, 16, 5, (1, 10, 50)


def table(kind, name, size, rows, digits):
    print(f"static const {kind} {name}{size} = {{")
    for row in rows:
        text = "{" + ", ".join(f"{float(v):.{digits}g}" for v in row) + "},"
        print(textwrap.fill(text, 119, initial_indent="    ", subsequent_indent="     ", break_on_hyphens=False))
    print("};")


def learning_rates(name, arguments):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=PEAK)
    lr = get_scheduler(name, optimizer, num_warmup_steps=WARMUP, num_training_steps=TOTAL, **arguments)
    row = []
    for _ in range(STEPS + 1):
        row.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        lr.step()
    return row


def decays(use_ema_warmup):
    ema = EMAModel([torch.zeros(1)], decay=DECAY, min_decay=MIN_DECAY, update_after_step=AFTER,
                   use_ema_warmup=use_ema_warmup, inv_gamma=INV_GAMMA, power=POWER)
    return [ema.get_decay(n) for n in range(1, UPDATES + 1)]


def optimized(kind):
    """Weights and gradients are the fractions that rates_start() and rates_gradient() of the test compute."""
    start = torch.tensor([(i * 37 % 101 - 50) / 32 for i in range(MATRIX + VECTOR)])
    matrix = torch.nn.Parameter(start[:MATRIX].reshape(4, 4).clone())
    vector = torch.nn.Parameter(start[MATRIX:].clone())
    optimizer = kind([{"params": [matrix], "weight_decay": WEIGHT_DECAY}, {"params": [vector], "weight_decay": 0.0}],
                     lr=LR, betas=BETAS, eps=EPS, foreach=False)
    rows = []
    for step in range(1, SHOWN[-1] + 1):
        g = torch.tensor([((step * 131 + i * 71) % 211 - 105) / 64 for i in range(MATRIX + VECTOR)])
        matrix.grad, vector.grad = g[:MATRIX].reshape(4, 4).clone(), g[MATRIX:].clone()
        optimizer.step()
        if step in SHOWN:
            rows.append(torch.cat([matrix.detach().flatten(), vector.detach()]).tolist())
    return rows


version = f"torch {torch.__version__.split('+')[0]}, diffusers {diffusers.__version__}"
print(f"/* Written by make_rates_fixture.py with {version}. */")
print("#ifndef DDPM_RATES_FIXTURE_H\n#define DDPM_RATES_FIXTURE_H\n/* clang-format off */\n")
print(f"enum {{ RATES_WARMUP = {WARMUP}, RATES_TOTAL = {TOTAL}, RATES_STEPS = {STEPS}, RATES_UPDATES = {UPDATES} }};")
print(f"static const double rates_peak = {PEAK};")
print("/* Steps 0 to RATES_STEPS of: " + ", ".join(name for name, _ in SCHEDULES) + ";\n"
      f" * num_cycles 3, power 1.5, step_rules {RULES} */")
table("double", "rates_lr", f"[{len(SCHEDULES)}][RATES_STEPS + 1]", [learning_rates(*s) for s in SCHEDULES], 17)
print(f"/* Updates 1 to RATES_UPDATES without and with use_ema_warmup: decay {DECAY}, min_decay {MIN_DECAY}, "
      f"update_after_step {AFTER},\n * inv_gamma {INV_GAMMA}, power {POWER} */")
table("double", "rates_ema", "[2][RATES_UPDATES]", [decays(False), decays(True)], 17)
print(f"/* Weights after {SHOWN} steps of AdamW and Adam: lr {LR}, betas {BETAS}, eps {EPS}, weight_decay {WEIGHT_DECAY} of "
      f"the first {MATRIX} */")
print(f"enum {{ RATES_WEIGHTS = {MATRIX + VECTOR}, RATES_MATRIX = {MATRIX}, RATES_SHOWN = {len(SHOWN)} }};")
print("static const int rates_shown[RATES_SHOWN] = {" + ", ".join(map(str, SHOWN)) + "};")
table("double", "rates_adamw", "[RATES_SHOWN][RATES_WEIGHTS]", optimized(torch.optim.AdamW), 9)
table("double", "rates_adam", "[RATES_SHOWN][RATES_WEIGHTS]", optimized(torch.optim.Adam), 9)
print("/* clang-format on */\n\n#endif")
