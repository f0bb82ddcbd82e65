"""stages.py - the stages of tools/gpu_check; each is a function of (report, options)."""

import glob
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import time

from gpu import machine
from gpu.picture import difference

PRECISIONS = ("fp32", "bf16", "tf32")
# Programs of tests/ that run on the device that DDPM_TEST_DEVICE names, cheapest first.
DEVICE_TESTS = ("test_ops", "test_train_ops", "test_sample_ops", "test_simple_golden", "test_unet_golden",
                "test_trajectory", "test_sampling_golden")
SMALL_TESTS = ("test_train_ops", "test_sample_ops", "test_ops")
NETWORKS = {"cifar10": ("configs/cifar10.yaml", 128), "unet64": ("configs/unet64.yaml", 32),
            "lsun256": ("configs/lsun256.yaml", 16)}


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


# ---- build ------------------------------------------------------------------------------------


def configure_command(o):
    command = ["cmake", "-S", ".", "-B", o.build, "-DCUDA=ON", "-DTESTS=ON"]
    if not os.path.exists(os.path.join(o.build, "CMakeCache.txt")):
        command += ["-G", "Ninja"] if shutil.which("ninja") else []
    return command


def targets():
    """What the other stages run; the rest of the suite needs no GPU."""
    tests = [t for t in DEVICE_TESTS if glob.glob(os.path.join(machine.ROOT, "tests", "*", t + ".c*"))]
    bench = os.path.join(machine.ROOT, "bench", "mb", "CMakeLists.txt")
    return ["ddpm", *(["mb"] if os.path.exists(bench) else []), *tests]


def build(r, o):
    r.put("environment", {k: o.env.get(k) for k in ("CPATH", "LIBRARY_PATH", "LD_LIBRARY_PATH", "CMAKE_PREFIX_PATH",
                                                   "CUDA_HOME", "CUDNN_HOME", "PKG_CONFIG", "PKG_CONFIG_LIBDIR",
                                                   "PKG_CONFIG_SYSROOT_DIR")})
    r.check("GPU", r.found["gpu"] is not None or None, str((r.found["gpu"] or {}).get("name", "none answers nvidia-smi")))
    good, output = run_check(r, "configure", configure_command(o), env=o.env)
    if not good:
        return
    r.check("tests are configured", "No tests:" not in output, "Criterion and Random123" if "No tests:" in output else "")
    good, _ = run_check(r, "compile", ["cmake", "--build", o.build, "-j", jobs(), "--target", *targets()], env=o.env)
    if not good:
        return
    run_check(r, "program starts", [os.path.join(o.build, "ddpm"), "--version"], env=o.env)
    describe_device(r, o)


def describe_device(r, o):
    mb = need(r, o, "bench/mb/mb")
    if not mb:
        return
    if not r.found["gpu"]:
        r.check("cuDNN's device description", None, "no GPU")
        return
    path = os.path.join(o.out, "cudnn_device.json")
    good, _ = run_check(r, "cuDNN's device description", [mb, "device", "--device", "cuda", "--out", path], env=o.env)
    if good:
        with open(path) as f:
            r.put("cudnn_device", json.load(f))
    result = os.path.join(o.out, "ceilings.json")
    good, output = run_check(r, "ceilings", [mb, "ceilings", "--device", "cuda", "--json", result], env=o.env)
    if good:
        r.put("ceilings", load(result))


def load(path):
    with open(path) as f:
        return json.load(f)


# ---- correct ----------------------------------------------------------------------------------


def synthesis(output):
    """Criterion's own count: (tested, passed), or None where it did not get so far."""
    found = re.search(r"Synthesis:.*?Tested: .*?(\d+).*?Passing: .*?(\d+)", re.sub(r"\x1b\[[0-9;]*m", "", output))
    return (int(found.group(1)), int(found.group(2))) if found else None


def failures(output):
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output)
    return re.findall(r"^\[(?:FAIL|CRASH|----)\] (.*)$", plain, re.M)[:20]


def device_env(o, precision):
    return {**o.env, "DDPM_TEST_DEVICE": "cuda", "DDPM_TEST_PRECISION": precision}


def test_program(r, o, name, precision):
    path = program(o, os.path.join("tests", name))
    if not path:
        r.check(f"{name} {precision}", None, "there is no such program")
        return
    code, output = r.run([path, "--jobs", "8"], env=device_env(o, precision))
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


def tests(precision):
    def stage(r, o):
        if need(r, o, "ddpm"):
            for name in DEVICE_TESTS:
                test_program(r, o, name, precision)

    return stage


def train_command(ddpm, o, out, *options):
    return [ddpm, "train", "configs/quickstart.yaml", "out=" + out, "ckpt.every=20", "train.steps=40",
            "log.every=1", *options]


def has_option(o, ddpm, key):
    return re.search(rf"\b{re.escape(key)}\b", machine.text_of([ddpm, "train", "--help"], o.env)) is not None


def precision_option(o, ddpm, precision):
    return ["precision=" + precision] if has_option(o, ddpm, "precision") else []


def weights_of(run, step=40):
    """Digests of what a checkpoint holds, by file."""
    folder = os.path.join(run, "ckpt", f"step_{step:08d}")
    digests = {}
    for path in glob.glob(os.path.join(folder, "**", "*.safetensors"), recursive=True):
        with open(path, "rb") as f:
            digests[os.path.relpath(path, folder)] = hashlib.sha256(f.read()).hexdigest()
    return digests


def fresh(o, name):
    path = os.path.join(o.out, "runs", name)
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return path


def same_bits(r, o, ddpm):
    """The same run twice, and once more from its half, leave the same files."""
    for precision in PRECISIONS:
        options = ["device=cuda", *precision_option(o, ddpm, precision)]
        runs = [fresh(o, f"{precision}_{k}") for k in ("first", "second", "resumed")]
        done = [r.run(train_command(ddpm, o, run, *options), env=o.env, most=120)[0] for run in runs[:2]]
        if done != [0, 0]:
            r.check(f"run to run, {precision}", False, f"the runs ended with {done}")
            continue
        first = weights_of(runs[0])
        r.check(f"run to run, {precision}", bool(first) and first == weights_of(runs[1]), f"{len(first)} files, bit for bit")
        shutil.copytree(runs[0], runs[2])
        shutil.rmtree(os.path.join(runs[2], "ckpt", "step_00000040"))
        code, _ = r.run(train_command(ddpm, o, runs[2], *options, "resume=auto"), env=o.env, most=120)
        r.check(f"resumed, {precision}", code == 0 and bool(first) and first == weights_of(runs[2]), "from step 20 of 40, bit for bit")


def losses(run):
    with open(os.path.join(run, "metrics.jsonl")) as f:
        return [m["loss"] for m in map(json.loads, f) if "loss" in m]


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
        r.check(f"losses as on the processor, {precision}", len(a) == len(b) > 0 and worst <= bound,
                f"{len(a)} steps, largest relative difference {worst:.2g}, bound {bound:g}")
    sample_like_cpu(r, o, ddpm, reference)


def sample(r, o, ddpm, run, name, *options):
    out = fresh(o, "samples_" + name)
    code, _ = r.run([ddpm, "sample", run, "sample.out=" + out, "count=8", "num_inference_steps=100", *options], env=o.env, most=120)
    return [os.path.join(out, f"{k:06d}.png") for k in range(8)] if code == 0 else None


def sample_like_cpu(r, o, ddpm, run):
    whole = sample(r, o, ddpm, run, "cpu", "device=cpu", "batch=8")
    if not whole:
        r.check("samples on the processor", False, "they could not be made")
        return
    on_gpu = {}
    for name, precision, batch, bound in (("fp32", "fp32", 8, 1.0), ("fp32_by_3", "fp32", 3, 1.0), ("bf16", "bf16", 8, 8.0)):
        files = sample(r, o, ddpm, run, name, "device=cuda", f"batch={batch}", *precision_option(o, ddpm, precision))
        if not files:
            r.check(f"samples, {name}", False, "they could not be made")
            continue
        on_gpu[name] = files
        mean, most = difference(whole, files)
        r.check(f"samples as on the processor, {name}", mean <= bound, f"mean difference {mean:.3f} of 255, largest {most}; bound {bound:g}")
    if len(on_gpu) > 1 and "fp32_by_3" in on_gpu and "fp32" in on_gpu:
        mean, most = difference(on_gpu["fp32"], on_gpu["fp32_by_3"])
        r.check("samples whatever the batch", mean <= 1.0, f"batches of 8 and of 3: mean difference {mean:.3f} of 255, largest {most}")


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
    if not tool:
        r.check("compute-sanitizer", False, "it is not here")
        return
    tools = ("memcheck", "synccheck", "racecheck", "initcheck")
    for i, kind in enumerate(tools):
        share = r.left() / (len(tools) - i)  # what one tool leaves over is the next one's
        until = time.monotonic() + share
        for name in SMALL_TESTS:
            path = program(o, os.path.join("tests", name))
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


# ---- micro ------------------------------------------------------------------------------------

# name, configuration, more arguments, share of the time at most
MICRO = (("ceilings", None, [], 30), ("norm", "cifar10", [], 60), ("graph", "cifar10", [], 40),
         ("timeline", "cifar10", [], 60), ("up", "cifar10", [], 40), ("attention", "cifar10", [], 60),
         ("sampling", "cifar10", ["sample.num_inference_steps=100"], 60),
         ("overlap", "cifar10", ["--only", "side_stream"], 40), ("conv", "cifar10", [], 120),
         ("norm", "lsun256", [], 60), ("graph", "unet64", [], 30), ("timeline", "lsun256", [], 60),
         ("overlap", "cifar10", [], 90), ("conv", "unet64", [], 90), ("conv", "lsun256", [], 120))


def beside_pytorch(r, o, key, result, results):
    """The same shapes in PyTorch, into the same rows."""
    python = machine.python_for_torch()
    if not python or r.left() < 60:
        r.check(f"{key} in PyTorch", None, "no time left" if python else "no Python here has it")
        return
    both = result[: -len(".json")] + "-pytorch.json"
    code, output = r.run([python, "bench/pytorch/ops.py", result, "--out", both], env=o.plain, most=90)
    if os.path.exists(both):
        results[key] = load(both)
        r.put("results", results)
    r.check(f"{key} in PyTorch", True if code == 0 else None, "time up" if code is None else last_line(output))


def micro(r, o):
    mb = need(r, o, "bench/mb/mb")
    if not mb:
        return
    gpu_note(r, "gpu_before")
    results = {}
    for name, config, more, most in MICRO:
        key = name + (f"-{config}" if config else "") + ("-" + more[1] if more[:1] == ["--only"] else "")
        result = os.path.join(o.out, f"mb-{key}.json")
        command = [mb, name, "--device", "cuda", "--json", result, "--plans", os.path.join(o.build, "plans.txt"),
                   "--seconds", str(max(1, int(min(most, r.left()) - 15)))]
        if config:
            command += [NETWORKS[config][0], f"train.batch={NETWORKS[config][1]}"]
        if os.path.exists(result):
            os.remove(result)
        if r.left() < 20:
            r.check(key, None, "no time left")
            continue
        code, output = r.run(command + more, env=o.env, most=most + 15)
        if os.path.exists(result):
            results[key] = load(result)
            r.put("results", results)
        wrong = results.get(key, {}).get("wrong", 0)
        if code == 0 and name in ("conv", "norm"):
            beside_pytorch(r, o, key, result, results)
        r.check(key, code == 0, "time up" if code is None else last_line(output) + (f"; {wrong} wrong" if wrong else ""))
    gpu_note(r, "gpu_after")


# ---- beside PyTorch -----------------------------------------------------------------------------


def compare(mode, network):
    def stage(r, o):
        mb = need(r, o, "bench/mb/mb")
        python = machine.python_for_torch()
        if not mb or not python:
            if not python:
                r.check("PyTorch", False, "no Python here has it")
            return
        config, batch = NETWORKS[network]
        result = os.path.join(o.out, f"compare-{mode}-{network}.json")
        command = [python, "bench/compare", mode, config, "--mb", mb, "--python", python, "--device", "cuda",
                   "--batch", str(batch if mode == "train" else min(batch, 64)), "--json", result,
                   "--csv", os.path.join(o.out, "compare.csv"), "--seconds", str(max(60, int(r.left() - 30)))]
        command += ["--variants", o.variants] if o.variants else []
        gpu_note(r, "gpu_before")
        # The rivals must not see our libraries, and our program needs them: it gets its path by an argument.
        command += ["--our-library-path", o.env.get("LD_LIBRARY_PATH", "")]
        code, output = r.run(command, env=o.plain)
        gpu_note(r, "gpu_after")
        if os.path.exists(result):
            found = load(result)
            r.put("result", found)
            for row in found.get("rows", []):
                r.check(row["variant"], None if row.get("error") else True, row.get("error") or row.get("line", ""))
        r.check("comparison", code == 0, "time up" if code is None else last_line(output))

    return stage


# ---- a real run -----------------------------------------------------------------------------------


def real_run(r, o):
    ddpm = need(r, o, "ddpm")
    if not ddpm:
        return
    run = fresh(o, "real")
    mnist = os.path.join(o.data, "mnist") if o.data else ""
    if os.path.isdir(mnist):
        command = [ddpm, "train", "configs/mnist.yaml", "data.path=" + mnist, "device=cuda", "out=" + run]
    else:
        command = [ddpm, "train", "configs/quickstart.yaml", "train.steps=20000", "device=cuda", "out=" + run]
    seconds = max(5.0, min(240.0, r.left() - 120))
    code = stopped_after(r, o, command, seconds)
    r.check("training", code in (0, 85), f"exit code {code} after {seconds:.0f} s at most (85: stopped and saved)")
    try:
        found = losses(run)
        r.put("losses", found[:: max(1, len(found) // 400)])
        quarter = max(1, len(found) // 4)
        early, late = sum(found[:quarter]) / quarter, sum(found[-quarter:]) / quarter
        r.check("the loss falls", late < early, f"first quarter {early:.4f}, last {late:.4f}, {len(found)} entries")
    except OSError as e:
        r.check("the loss falls", False, str(e))
    run_check(r, "sampling", [ddpm, "sample", run, "count=64", "batch=64", "grid=8", "device=cuda"], env=o.env, most=120)
    for name in ("loss.svg", "noising.png", "samples/grid.png", "metrics.jsonl"):
        path = os.path.join(run, name)
        if os.path.exists(path):
            shutil.copy(path, os.path.join(o.out, "run-" + os.path.basename(name)))
    r.check("pictures", os.path.exists(os.path.join(o.out, "run-grid.png")), "run-grid.png, run-loss.svg: look at them")


def stopped_after(r, o, command, seconds):
    """Exit code of the command, asked to save and stop (SIGINT) when it has had its time."""
    entry = {"command": command, "cwd": os.getcwd(), "stopped_after_s": seconds}
    r.found["commands"].append(entry)
    with open(os.path.join(o.out, r.stage + ".log"), "ab") as log:
        p = subprocess.Popen(command, env=o.env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            entry["rc"] = p.wait(max(1.0, seconds))
        except subprocess.TimeoutExpired:
            p.send_signal(signal.SIGINT)
            try:
                entry["rc"] = p.wait(60)
            except subprocess.TimeoutExpired:
                entry["rc"] = "did not stop"
        finally:
            if p.poll() is None:
                os.killpg(p.pid, signal.SIGKILL)
                p.wait()
    r.write()
    return entry["rc"]


STAGES = {"build": build, "correct": correct}
STAGES.update({f"tests-{p}": tests(p) for p in PRECISIONS})
STAGES.update({"sanitize": sanitize, "micro": micro})
STAGES.update({f"train-{n}": compare("train", n) for n in NETWORKS})
STAGES.update({f"sample-{n}": compare("sample", n) for n in ("cifar10", "lsun256")})
STAGES["run"] = real_run
