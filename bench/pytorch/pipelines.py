#!/usr/bin/env python3
"""pipelines.py FOLDER [options]: pictures a second from noise to PNG files, ours beside diffusers' pipelines.

FOLDER is a pipeline folder or a checkpoint of a run.  The two take turns (A B A B): `ddpm sample`, timed as a process with
its start, and DiffusionPipeline in this process, timed without imports and loading, each picture saved by Pillow.  One
line a case: medians of the rounds, and the ratio.

    python bench/pytorch/pipelines.py runs/quickstart/ckpt/step_00002100 --threads 2 --count 256 --batch 64"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time

import diffusers
import torch

# sampler: diffusers' class, and what makes it the same sampler
CASES = {
    "ddpm": ("DDPMScheduler", {}),
    "ddim": ("DDIMScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {"thresholding": True, "timestep_spacing": "linspace"}),
}


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder")
    p.add_argument("--ddpm", default="build/ddpm")
    p.add_argument("--device", default="cpu")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--count", type=int, default=256)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--steps", type=int, nargs="+", default=[50, 20])
    p.add_argument("--samplers", nargs="+", default=["ddpm", "ddim", "dpmpp_2m"], choices=list(CASES))
    p.add_argument("--rounds", type=int, default=3)
    return p.parse_args()


def ours(o, sampler, steps, folder):
    command = [o.ddpm, "sample", o.folder, f"out={folder}", f"count={o.count}", f"batch={o.batch}", f"sampler={sampler}",
               f"num_inference_steps={steps}", f"threads={o.threads}", f"device={o.device}", "seed=1"]
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return o.count / (time.perf_counter() - begin)


def theirs(o, unet, sampler, steps, folder):
    name, more = CASES[sampler]
    with open(os.path.join(o.folder, "scheduler", "scheduler_config.json")) as f:
        scheduler = getattr(diffusers, name).from_config({**json.load(f), **more})
    kind = diffusers.DDIMPipeline if sampler == "ddim" else diffusers.DDPMPipeline
    pipeline = kind(unet, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    os.makedirs(folder)
    begin = time.perf_counter()
    for first in range(0, o.count, o.batch):
        generator = torch.Generator(o.device).manual_seed(first)
        n = min(o.batch, o.count - first)
        for i, picture in enumerate(pipeline(batch_size=n, num_inference_steps=steps, generator=generator).images):
            picture.save(os.path.join(folder, f"{first + i:06d}.png"))
    return o.count / (time.perf_counter() - begin)


def main():
    o = arguments()
    torch.set_num_threads(o.threads)
    diffusers.utils.logging.set_verbosity_error()
    unet = diffusers.UNet2DModel.from_pretrained(o.folder, subfolder="unet").eval().to(o.device)
    work = tempfile.mkdtemp()
    try:
        for steps in o.steps:
            for sampler in o.samplers:
                a, b = [], []
                for turn in range(o.rounds):
                    a.append(ours(o, sampler, steps, os.path.join(work, f"a{steps}{sampler}{turn}")))
                    b.append(theirs(o, unet, sampler, steps, os.path.join(work, f"b{steps}{sampler}{turn}")))
                x, y = statistics.median(a), statistics.median(b)
                print(f"{sampler:10} {steps:4} steps: {x:8.1f} pictures/s, diffusers {y:8.1f}; {x / y:5.2f} times", flush=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)


main()
