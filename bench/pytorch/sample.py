#!/usr/bin/env python3
"""sample.py - the reverse process in PyTorch, timed: ms of one network evaluation with its update."""

import common
import torch

ARGS = common.arguments(__doc__, "sample")


def table(o):
    """Rows of (t, coefficient of x_t, of clipped x_0, of the noise, 1/sqrt(abar), -sqrt(1 - abar)/sqrt(abar)), in
    double: Ho et al. 2020, eq. 6 and 7; DDIM: Song et al. 2020 (arXiv:2010.02502), eq. 12 with eta = 0."""
    s = o.settings
    big_t = s.get("diffusion.num_train_timesteps", 1000)
    beta = torch.linspace(
        s.get("diffusion.beta_start", 1e-4), s.get("diffusion.beta_end", 0.02), big_t, dtype=torch.float64
    )
    abar = torch.cumprod(1 - beta, 0)
    steps = o.steps or big_t
    stride, rows = big_t // steps, []
    for i in reversed(range(steps)):
        t = i * stride
        bar, before = abar[t], abar[t - stride] if t >= stride else torch.tensor(1.0, dtype=torch.float64)
        if o.sampler == "ddim":  # x_prev = sqrt(before) x_0 + sqrt(1 - before) eps, eps from x_t and x_0
            along = ((1 - before) / (1 - bar)).sqrt()
            rows.append([t, along, before.sqrt() - along * bar.sqrt(), 0.0])
        else:
            alpha = bar / before
            variance = (1 - before) / (1 - bar) * (1 - alpha)
            rows.append(
                [
                    t,
                    alpha.sqrt() * (1 - before) / (1 - bar),
                    before.sqrt() * (1 - alpha) / (1 - bar),
                    variance.clamp(min=1e-20).sqrt() if i else 0.0,
                ]
            )
        rows[-1] += [1 / bar.sqrt(), -((1 - bar) / bar).sqrt()]
    return torch.tensor([[float(v) for v in r] for r in rows], dtype=torch.float32, device=o.device)


class Sampler:
    def __init__(self, o):
        self.o = o
        self.pure = o.v["precision"] == "purebf16"
        self.net = common.create(o).eval().requires_grad_(False)
        if self.pure:
            self.net.bfloat16()
        self.rows = table(o)
        size, c = o.options["sample_size"], o.options["in_channels"]
        form = torch.channels_last if o.v["layout"] == "nhwc" else torch.contiguous_format
        self.x = torch.randn(o.batch, c, size, size, device=o.device).to(memory_format=form)
        self.row = torch.zeros(1, dtype=torch.long, device=o.device)
        self.forward = common.compiled(o, self.next)
        self.graph = None

    def next(self, x, row):
        r = self.rows[row][0]
        with common.autocast(self.o):
            eps = self.net(x.bfloat16() if self.pure else x, r[0].expand(x.shape[0])).float()
        x0 = (r[4] * x + r[5] * eps).clamp(-1, 1)
        return r[1] * x + r[2] * x0 + r[3] * torch.randn_like(x)

    @torch.no_grad()
    def one(self):
        if self.o.v["mode"] in ("reduce", "max"):
            torch.compiler.cudagraph_mark_step_begin()
        self.x.copy_(self.forward(self.x, self.row))
        self.row.add_(1)

    @torch.no_grad()
    def capture(self):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.row.zero_()
                self.one()
        torch.cuda.current_stream().wait_stream(side)
        self.row.zero_()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.one()

    @torch.no_grad()
    def turn(self):
        """One whole loop: noise in, images out to the host."""
        self.x.normal_()
        self.row.zero_()
        for _ in range(len(self.rows)):
            if self.graph is not None:
                self.graph.replay()
            else:
                self.one()
        return self.x.cpu()


def main():
    o = ARGS
    common.prepare(o)
    sampler = Sampler(o)
    sampler.one()
    common.synchronize(o)
    if "graph" in o.v["flags"] and o.device == "cuda":
        sampler.capture()
    sampler.turn()
    if o.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    count = sum(p.numel() for p in sampler.net.parameters())
    common.run(
        o,
        sampler.turn,
        lambda: {"parameters": count, "steps": len(sampler.rows)},
        divide=len(sampler.rows),
    )


if __name__ == "__main__":
    main()
