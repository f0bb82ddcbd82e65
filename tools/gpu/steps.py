"""steps.py - what the stages share: the programs, one checked command, small helpers."""

import collections
import json
import os
import shutil

from gpu import machine

PRECISIONS = ("fp32", "bf16", "tf32")
# Programs of tests/ that run on the device that DDPM_TEST_DEVICE names.
NETWORK_TESTS = (
    "test_train_ops",
    "test_sample_ops",
    "test_simple_golden",
    "test_unet_golden",
    "test_trajectory",
    "test_sampling_golden",
    "test_loops",
)
OP_TESTS = ("test_ops",)  # more than a thousand processes
SMALL_TESTS = ("test_train_ops", "test_sample_ops", "test_ops")

# What the stages run, and how much of it.  programs: {name: (target, file in the build folder)}, where tests have
# the pattern "test"; configs: {network: (configuration, batch)}; steps: of a short training run, saved at its half;
# evaluations: of the network for each short sample; batches: of sampling, timed; seconds: of the long run.
Rig = collections.namedtuple("Rig", "options programs configs steps evaluations batches seconds sample compare")

DEVICE = Rig(
    options=["-DCUDA=ON"],
    programs={"ddpm": ("ddpm", "ddpm"), "mb": ("mb", "bench/mb/mb"), "test": ("%s", "tests/%s")},
    configs={
        "quickstart": ("configs/quickstart.yaml", 32),
        "cifar10": ("configs/cifar10.yaml", 128),
        "unet64": ("configs/unet64.yaml", 32),
        "lsun256": ("configs/lsun256.yaml", 16),
    },
    steps=40,
    evaluations=100,
    batches="1,16,64,256",
    seconds=240,
    sample=["count=64", "batch=64", "grid=8"],
    compare=["--device", "cuda"],
)
# The backend's own code on the emulated device of tests/emu, in sizes that it computes in seconds.
EMULATOR = Rig(
    options=[],
    programs={
        "ddpm": ("emulated_ddpm", "emulated/ddpm"),
        "mb": ("emulated_mb", "emulated/mb"),
        "test": ("%s_emulated", "tests/%s_emulated"),
    },
    configs=dict.fromkeys(DEVICE.configs, ("tools/gpu/smallest.yaml", 2)),
    steps=4,
    evaluations=4,
    batches="1,2",
    seconds=10,
    sample=["count=2", "batch=2", "grid=1", "num_inference_steps=4"],
    compare=["--device", "cpu", "--variants", "fp32-eager-nhwc", "--rounds", "2"],
)


def jobs():
    return str(os.cpu_count() or 2)


def target_and_path(o, name):
    found = o.rig.programs.get(name)
    return found or [pattern % name for pattern in o.rig.programs["test"]]


def program(o, name):
    path = os.path.join(o.build, target_and_path(o, name)[1])
    return path if os.path.exists(path) else None


def need(r, o, *names):
    """The programs of stage build, or None and a failed check."""
    paths = [program(o, n) for n in names]
    for name, path in zip(names, paths):
        if not path:
            r.check(name, False, f"not in {o.build}: run tools/gpu_check build first")
            return None
    return paths[0] if len(paths) == 1 else paths


def last_line(output):
    lines = [line for line in output.strip().splitlines() if line.strip()]
    return lines[-1].strip()[:200] if lines else "no output"


def run_check(r, name, command, **how):
    code, output = r.run(command, **how)
    note = "time up" if code is None else "" if code == 0 else f"exit code {code}: {last_line(output)}"
    return r.check(name, code == 0, note), output


def gpu_note(r, key):
    """Clocks, temperature and load as they are now: figures without them say little."""
    r.put(key, machine.gpu_state())


def load(path):
    with open(path) as f:
        return json.load(f)


def fresh(o, name):
    path = os.path.join(o.out, "runs", name)
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return path


def losses(run):
    with open(os.path.join(run, "metrics.jsonl")) as f:
        return [m["loss"] for m in map(json.loads, f) if "loss" in m]
