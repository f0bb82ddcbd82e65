#!/usr/bin/env python3
"""check.py CONFIG --ddpm PROGRAM --mb PROGRAM [options]: are the rivals the same network as ours?

Our initial weights, written by `ddpm bench weights` as a pipeline folder, go into both rivals; all must have as
many parameters and, in f32, make the same of the same x and t.  Prints one line each; exit code 1 where
one differs.
"""

import argparse
import os
import subprocess
import sys
import tempfile

import net
import settings
import torch

BOUND = {"fp32": 2e-5, "tf32": 5e-3, "bf16": 5e-2}


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("config")
    p.add_argument("--ddpm", default="build/ddpm")
    p.add_argument("--mb", default="build/bench/mb/mb")
    p.add_argument("--device", default="cpu", help="where our program computes")
    p.add_argument("--precision", default="fp32", choices=list(BOUND))
    p.add_argument("--batch", type=int, default=2)
    p.add_argument("--our-library-path", default="")
    return p.parse_args()


def ours(o, folder, x, t, more):
    """Our prediction for x [n, c, h, w] and t [n], in that shape."""
    given, out = os.path.join(folder, "x"), os.path.join(folder, "y")
    x.permute(0, 2, 3, 1).contiguous().numpy().tofile(given)
    with open(given, "ab") as f:
        t.numpy().tofile(f)
    run(o, ["predict", "--weights", folder, "--images", given, "--out", out, "--precision", o.precision, *more])
    n, c, h, w = x.shape
    y = torch.frombuffer(bytearray(open(out, "rb").read()), dtype=torch.float32)
    return y.reshape(n, h, w, -1).permute(0, 3, 1, 2)


def run(o, arguments_):
    """`predict` of mb."""
    call(o, [o.mb, arguments_[0], "--device", o.device, o.config, f"train.batch={o.batch}", *arguments_[1:]])


def call(o, command):
    env = dict(os.environ)
    if o.our_library_path:
        env["LD_LIBRARY_PATH"] = o.our_library_path
    subprocess.run(command, check=True, env=env, stdout=sys.stderr)


def main():
    o = arguments()
    bad = 0
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        call(o, [o.ddpm, "bench", "weights", o.config, "device=cpu", "save=" + folder])
        state, options = net.pipeline_state(folder), settings.options_of_pipeline(folder)
        state = {k: noisy(k, v) for k, v in state.items()}
        save(folder, state)
        from_yaml, _ = settings.options_of_yaml(o.config)
        if {k: from_yaml[k] for k in from_yaml if k != "dropout"} != {k: options[k] for k in options if k != "dropout"}:
            raise SystemExit(f"{o.config} and the pipeline made from it say different things:\n{from_yaml}\n{options}")
        torch.manual_seed(1)
        size = options["sample_size"]
        x = torch.randn(o.batch, options["in_channels"], size, size)
        t = torch.linspace(0, 999, o.batch).round()
        want = ours(o, folder, x, t, [])
        total = sum(v.numel() for v in state.values())
        for kind in net.NETS:
            try:
                rival = net.create(kind, options).load_diffusers(state).eval()
            except ImportError as e:
                print(f"skipped {kind}: {e}")
                continue
            got = rival(x, t)
            error = float((got - want).double().norm() / got.double().norm())
            good = net.parameters(rival) == total and error <= BOUND[o.precision]
            bad += not good
            print(
                f"{'ok     ' if good else 'DIFFERS'} {kind}: {net.parameters(rival)} parameters of {total}, "
                f"relative difference {error:.2g}, bound {BOUND[o.precision]:g}"
            )
    return 1 if bad else 0


def noisy(name, v):
    """Initial weights hide mistakes: biases are 0, scales 1, last layers 1e-10."""
    g = torch.Generator().manual_seed(sum(name.encode()))
    z = torch.randn(v.shape, generator=g)
    if v.dim() > 1:
        return z / (v[0].numel() ** 0.5)
    return 1 + 0.2 * z if name.endswith("weight") else 0.1 * z


def save(folder, state):
    from safetensors.torch import save_file

    save_file(state, os.path.join(folder, "unet", net.WEIGHTS))


if __name__ == "__main__":
    sys.exit(main())
