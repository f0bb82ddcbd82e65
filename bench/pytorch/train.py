#!/usr/bin/env python3
"""train.py - a DDPM training step in PyTorch, timed.

The whole step is what our own does: gather and mirror images that lie on the device, draw t and the
noise, x_t, the network, the mean squared error, its gradient, clipping, AdamW, the moving average.
"""

import common
import torch

ARGS = common.arguments(__doc__, "train")


def schedule(o):
    """sqrt(abar) and sqrt(1 - abar), [T] each."""
    s = o.settings
    beta = torch.linspace(
        s.get("diffusion.beta_start", 1e-4),
        s.get("diffusion.beta_end", 0.02),
        s.get("diffusion.num_train_timesteps", 1000),
        dtype=torch.float64,
    )
    abar = torch.cumprod(1 - beta, 0)
    return abar.sqrt().float().to(o.device), (1 - abar).sqrt().float().to(o.device)


class Step:
    def __init__(self, o):
        self.o = o
        self.pure = o.v["precision"] == "purebf16"
        self.net = common.create(o).train()
        master = [p.detach().clone().requires_grad_(True) for p in self.net.parameters()] if self.pure else None
        if self.pure:
            self.net.bfloat16()
        self.params = list(self.net.parameters())
        self.master = master or self.params
        self.ema = [p.detach().clone() for p in self.master]
        self.decay = o.settings.get("ema.decay", 0.9999)
        self.clip = o.settings.get("train.max_grad_norm", 1)
        cuda = o.device == "cuda"
        self.opt = torch.optim.AdamW(
            self.master,
            lr=o.settings.get("train.lr", 2e-4),
            weight_decay=0.0,
            fused=True,
            **({"capturable": True} if cuda else {})
        )
        self.data = common.images(o)
        self.signal, self.noise = schedule(o)
        self.flip = bool(o.settings.get("data.flip", False))
        self.forward = common.compiled(o, self.loss_of)
        self.loss = torch.zeros((), device=o.device)
        self.graph = None

    def loss_of(self):
        o, n, device = self.o, self.o.batch, self.o.device
        x0 = self.data[torch.randint(0, self.data.shape[0], (n,), device=device)]
        if self.flip:
            mirror = torch.rand(n, 1, 1, 1, device=device) < 0.5
            x0 = torch.where(mirror, x0.flip(3), x0)
        x0 = x0.float() * (2 / 255) - 1
        t = torch.randint(0, self.signal.shape[0], (n,), device=device)
        eps = torch.randn_like(x0)
        xt = self.signal[t][:, None, None, None] * x0 + self.noise[t][:, None, None, None] * eps
        with common.autocast(o):
            out = self.net(xt.bfloat16() if self.pure else xt, t)
        return ((out.float() - eps) ** 2).mean()

    def eager(self):
        if self.o.v["mode"] in ("reduce", "max"):
            torch.compiler.cudagraph_mark_step_begin()
        loss = self.forward()
        loss.backward()
        if self.pure:
            for m, p in zip(self.master, self.params):
                m.grad = p.grad.float()
        if self.clip:
            torch.nn.utils.clip_grad_norm_(self.master, self.clip, foreach=True)
        self.opt.step()
        self.opt.zero_grad(set_to_none=True)
        if self.pure:
            for p in self.params:
                p.grad = None
            with torch.no_grad():
                torch._foreach_copy_(self.params, self.master)
        with torch.no_grad():
            torch._foreach_lerp_(self.ema, [p.detach() for p in self.master], 1 - self.decay)
            self.loss.copy_(loss.detach())

    def capture(self):
        """The whole step as one graph, after it ran on a side stream (PyTorch's rule for captures)."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(5):
                self.eager()
        torch.cuda.current_stream().wait_stream(side)
        self.opt.zero_grad(set_to_none=True)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.eager()

    def turn(self):
        if self.graph is not None:
            self.graph.replay()
        else:
            self.eager()


def main():
    o = ARGS
    common.prepare(o)
    step = Step(o)
    step.eager()
    common.synchronize(o)
    first_step_s = common.process_age()
    if "graph" in o.v["flags"] and o.device == "cuda":
        step.capture()
    for _ in range(o.warmup):
        step.turn()
    common.synchronize(o)
    if o.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    count = sum(p.numel() for p in step.params)
    common.run(o, step.turn, lambda: {"loss": float(step.loss), "parameters": count, "first_step_s": first_step_s})


if __name__ == "__main__":
    main()
