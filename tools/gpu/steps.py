"""steps.py - what the stages share: the programs, one checked command, small helpers."""

import json
import os
import shutil

from gpu import machine

PRECISIONS = ("fp32", "bf16", "tf32")
# Programs of tests/ that run on the device that DDPM_TEST_DEVICE names, cheapest first.
DEVICE_TESTS = (
    "test_ops",
    "test_train_ops",
    "test_sample_ops",
    "test_simple_golden",
    "test_unet_golden",
    "test_trajectory",
    "test_sampling_golden",
)
SMALL_TESTS = ("test_train_ops", "test_sample_ops", "test_ops")


def jobs():
    return str(os.cpu_count() or 2)


def program(o, name):
    path = os.path.join(o.build, name)
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
