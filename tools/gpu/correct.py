"""correct.py - the stages that ask whether it is right: correct, tests-PRECISION, sanitize."""

import glob
import hashlib
import os
import re
import shutil
import time

from gpu import machine
from gpu.picture import difference
from gpu.steps import PRECISIONS, SMALL_TESTS, fresh, last_line, losses, need, program


def synthesis(output):
    """Criterion's own count: (tested, passed), or None where it did not get so far."""
    found = re.search(r"Synthesis:.*?Tested: .*?(\d+).*?Passing: .*?(\d+)", re.sub(r"\x1b\[[0-9;]*m", "", output))
    return (int(found.group(1)), int(found.group(2))) if found else None


def failures(output):
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output)
    return re.findall(r"^\[(?:FAIL|CRASH|----)\] (.*)$", plain, re.M)[:20]


def device_env(o, precision):
    return {**o.env, "DDPM_TEST_DEVICE": "cuda", "DDPM_TEST_PRECISION": precision, "DDPM_POISON": "1"}


def test_program(r, o, name, precision, **more):
    path = program(o, name)
    if not path:
        r.check(f"{name} {precision}", None, "there is no such program")
        return
    code, output = r.run([path, "--jobs", "8"], env={**device_env(o, precision), **more})
    count = synthesis(output)
    note = "time up" if code is None else f"{count[1]} of {count[0]} tests" if count else last_line(output)
    if code not in (0, None):
        note += "; " + "; ".join(failures(output)[:3])
    good = code == 0 and count is not None and count[0] > 0  # none at all is no success
    r.check(f"{name} {precision}", good, note)
    if not good:
        r.found["commands"][-1]["failures"] = failures(output)


def correct(r, o):
    ddpm = need(r, o, "ddpm")
    if not ddpm:
        return
    same_bits(r, o, ddpm)
    like_cpu(r, o, ddpm)


def tests(names, precision, **more):
    def stage(r, o):
        if need(r, o, "ddpm"):
            for name in names:
                test_program(r, o, name, precision, **more)

    return stage


def autotuned(names, precision):
    """With the algos that win the autotuning's races, instead of each library's first."""

    def stage(r, o):
        cache = os.path.join(o.out, "autotune-tests.txt")
        if os.path.exists(cache):
            os.remove(cache)  # of an earlier run
        tests(names, precision, DDPM_TEST_AUTOTUNE=cache)(r, o)
        count = sum(1 for _ in open(cache)) - 1 if os.path.exists(cache) else 0  # the first line is a header
        r.check("problems were autotuned", count > 0, f"{count} in {os.path.basename(cache)}")

    return stage


def train_command(ddpm, o, out, *options):
    return [
        ddpm,
        "train",
        o.rig.configs["quickstart"][0],
        "out=" + out,
        f"ckpt.every={o.rig.steps // 2}",
        f"train.steps={o.rig.steps}",
        "log.every=1",
        *options,
    ]


def has_option(o, ddpm, key):
    return re.search(rf"\b{re.escape(key)}\b", machine.text_of([ddpm, "train", "--help"], o.env)) is not None


def precision_option(o, ddpm, precision):
    return ["precision=" + precision] if has_option(o, ddpm, "precision") else []


def checkpoint(run, step):
    return os.path.join(run, "ckpt", f"step_{step:08d}")


def weights_of(run, step):
    """Digests of what a checkpoint holds, by file."""
    folder = checkpoint(run, step)
    digests = {}
    for path in glob.glob(os.path.join(folder, "**", "*.safetensors"), recursive=True):
        with open(path, "rb") as f:
            digests[os.path.relpath(path, folder)] = hashlib.sha256(f.read()).hexdigest()
    return digests


def same_bits(r, o, ddpm):
    """The same run twice, and once more from its half, leave the same files."""
    for precision in PRECISIONS:
        # Both runs use one autotune cache: another choice of algorithm is another order of additions.
        cache = os.path.join(o.out, f"autotune-{precision}.txt")
        options = ["device=cuda", "autotune_cache=" + cache, *precision_option(o, ddpm, precision)]
        runs = [fresh(o, f"{precision}_{k}") for k in ("first", "second", "resumed")]
        done = [r.run(train_command(ddpm, o, run, *options), env=o.env, most=120)[0] for run in runs[:2]]
        if done != [0, 0]:
            r.check(f"run to run, {precision}", False, f"the runs ended with {done}")
            continue
        first = weights_of(runs[0], o.rig.steps)
        r.check(
            f"run to run, {precision}", bool(first) and first == weights_of(runs[1], o.rig.steps), f"{len(first)} files, bit for bit"
        )
        shutil.copytree(runs[0], runs[2])
        shutil.rmtree(checkpoint(runs[2], o.rig.steps))
        code, _ = r.run(train_command(ddpm, o, runs[2], *options, "resume=auto"), env=o.env, most=120)
        r.check(
            f"resumed, {precision}",
            code == 0 and bool(first) and first == weights_of(runs[2], o.rig.steps),
            f"from step {o.rig.steps // 2} of {o.rig.steps}, bit for bit",
        )


def like_cpu(r, o, ddpm):
    """The run and its samples as the processor makes them."""
    reference = fresh(o, "cpu")
    code, _ = r.run(train_command(ddpm, o, reference, "device=cpu"), env=o.env, most=200)
    if code != 0:
        r.check("run on the processor", False, f"exit code {code}")
        return
    for precision, bound in (("fp32", 2e-3), ("tf32", 2e-2), ("bf16", 5e-2)):
        run = os.path.join(o.out, "runs", f"{precision}_first")
        try:
            a, b = losses(reference), losses(run)
        except OSError as e:
            r.check(f"losses as on the processor, {precision}", False, str(e))
            continue
        worst = max((abs(x - y) / abs(x) for x, y in zip(a, b)), default=1.0)
        r.check(
            f"losses as on the processor, {precision}",
            len(a) == len(b) > 0 and worst <= bound,
            f"{len(a)} steps, largest relative difference {worst:.2g}, bound {bound:g}",
        )
    sample_like_cpu(r, o, ddpm, reference)


def sample(r, o, ddpm, run, name, *options):
    out = fresh(o, "samples_" + name)
    code, _ = r.run(
        [ddpm, "sample", run, "sample.out=" + out, "count=8", f"num_inference_steps={o.rig.evaluations}", *options],
        env=o.env,
        most=120,
    )
    return [os.path.join(out, f"{k:06d}.png") for k in range(8)] if code == 0 else None


def sample_like_cpu(r, o, ddpm, run):
    whole = sample(r, o, ddpm, run, "cpu", "device=cpu", "batch=8")
    if not whole:
        r.check("samples on the processor", False, "they could not be made")
        return
    on_gpu = {}
    for name, precision, batch, bound in (
        ("fp32", "fp32", 8, 1.0),
        ("fp32_by_3", "fp32", 3, 1.0),
        ("bf16", "bf16", 8, 8.0),
    ):
        files = sample(r, o, ddpm, run, name, "device=cuda", f"batch={batch}", *precision_option(o, ddpm, precision))
        if not files:
            r.check(f"samples, {name}", False, "they could not be made")
            continue
        on_gpu[name] = files
        mean, most = difference(whole, files)
        r.check(
            f"samples as on the processor, {name}",
            mean <= bound,
            f"mean difference {mean:.3f} of 255, largest {most}; bound {bound:g}",
        )
    if len(on_gpu) > 1 and "fp32_by_3" in on_gpu and "fp32" in on_gpu:
        mean, most = difference(on_gpu["fp32"], on_gpu["fp32_by_3"])
        r.check(
            "samples whatever the batch",
            mean <= 1.0,
            f"batches of 8 and of 3: mean difference {mean:.3f} of 255, largest {most}",
        )


# ---- sanitize ---------------------------------------------------------------------------------

LIBRARY_KERNEL = re.compile(r"cudnn|cutlass|xmma|cublas|gemm|sm\d\d_|nchw|nhwc|cask|flash", re.I)

FINDING = re.compile(r"^={9} (?:Invalid|Uninitialized|Race|Error|Barrier|Warning|Hazard|Program hit)", re.M)


def sanitizer_errors(output):
    """(errors in our kernels, errors in libraries' kernels, those the tool counted)"""
    blocks = FINDING.split(output)
    ours = theirs = 0
    for block in blocks[1:]:
        at = re.search(r"\bat (?:0x[0-9a-f]+ in )?(.*)", block)
        if at and LIBRARY_KERNEL.search(at.group(1)):
            theirs += 1
        else:
            ours += 1
    counted = sum(int(n) for n in re.findall(r"ERROR SUMMARY: (\d+) error", output))
    counted += sum(int(n) for n in re.findall(r"RACECHECK SUMMARY: (\d+) hazard", output))
    return ours, theirs, counted


def sanitize(r, o):
    tool = shutil.which("compute-sanitizer", path=o.env["PATH"])
    if not r.found["gpu"]:
        r.check("compute-sanitizer", None, "no GPU")
        return
    if not tool:
        r.check("compute-sanitizer", False, "it is not here")
        return
    # Not initcheck: every allocation is cleared, so it finds nothing.  DDPM_POISON fills activations with NaN instead.
    tools = ("memcheck", "synccheck", "racecheck")
    for i, kind in enumerate(tools):
        share = r.left() / (len(tools) - i)  # what one tool leaves over is the next one's
        until = time.monotonic() + share
        for name in SMALL_TESTS:
            path = program(o, name)
            if not path:
                r.check(f"{kind} {name}", None, "there is no such program")
                continue
            sanitize_one(r, o, [tool, "--tool", kind], path, max(1.0, until - time.monotonic()))


def sanitize_one(r, o, tool, path, seconds):
    kind, name = tool[-1], os.path.basename(path)
    # What a library tries and gives up is no finding; our own calls' failures are statuses.
    tool = tool + (["--report-api-errors", "no"] if kind == "memcheck" else [])
    command = tool + ["--target-processes", "all", "--error-exitcode", "9", "--print-limit", "20", path, "--jobs", "4"]
    code, output = r.run(command, env=device_env(o, "bf16"), most=seconds)
    ours, theirs, counted = sanitizer_errors(output)
    note = f"{ours} findings in our kernels, {theirs} in libraries'"
    if "not supported" in output and "Device" in output:
        r.check(f"{kind} {name}", None, "the tool refuses this device: " + last_line(output))
        return
    if ours or (counted and not theirs):
        r.check(f"{kind} {name}", False, note + f"; {counted} counted by the tool")
    elif code is None:
        r.check(f"{kind} {name}", None, f"time up after {seconds:.0f} s without a finding")
    else:
        passed = code == 0 or (code == 9 and theirs)
        r.check(f"{kind} {name}", bool(passed), note if passed else f"exit code {code}: {last_line(output)}")
