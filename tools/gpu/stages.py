"""stages.py - the stages of tools/gpu_check; each is a function of (report, options)."""

import glob
import hashlib
import json
import os
import shutil
import signal
import subprocess

from gpu import machine
from gpu.correct import correct, sanitize, tests
from gpu.report import write_json
from gpu.steps import DEVICE_TESTS, PRECISIONS, fresh, gpu_note, jobs, last_line, load, losses, need, run_check

NETWORKS = {
    "cifar10": ("configs/cifar10.yaml", 128),
    "unet64": ("configs/unet64.yaml", 32),
    "lsun256": ("configs/lsun256.yaml", 16),
}


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


def touch_changed(o):
    """A copied checkout may bring a changed file under an old date, and ninja goes by dates: what differs from
    what was built here before gets today's."""
    path = os.path.join(o.build, "sources.json")
    before = load(path) if os.path.exists(path) else {}
    now = {}
    for folder in ("src", "include", "kernels", "tests", "bench", "cmake"):
        for base, _, names in os.walk(os.path.join(machine.ROOT, folder)):
            for name in names:
                file = os.path.join(base, name)
                if name.endswith((".c", ".h", ".cu", ".cuh", ".cpp", ".def", ".cmake", "CMakeLists.txt")):
                    with open(file, "rb") as f:
                        now[os.path.relpath(file, machine.ROOT)] = hashlib.sha256(f.read()).hexdigest()
    for name in now:
        if before and before.get(name) != now[name]:
            os.utime(os.path.join(machine.ROOT, name))
    write_json(path, now)


def build(r, o):
    r.put(
        "environment",
        {
            k: o.env.get(k)
            for k in (
                "CPATH",
                "LIBRARY_PATH",
                "LD_LIBRARY_PATH",
                "CMAKE_PREFIX_PATH",
                "CUDA_HOME",
                "CUDNN_HOME",
                "PKG_CONFIG",
                "PKG_CONFIG_LIBDIR",
                "PKG_CONFIG_SYSROOT_DIR",
            )
        },
    )
    r.check(
        "GPU", r.found["gpu"] is not None or None, str((r.found["gpu"] or {}).get("name", "none answers nvidia-smi"))
    )
    touch_changed(o)
    good, output = run_check(r, "configure", configure_command(o), env=o.env)
    if not good:
        return
    r.check(
        "tests are configured", "No tests:" not in output, "Criterion and Random123" if "No tests:" in output else ""
    )
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


# ---- micro ------------------------------------------------------------------------------------

# name (ops: that of ddpm bench), configuration, more arguments, share of the time at most
MICRO = (
    ("ceilings", None, [], 30),
    ("norm", "cifar10", [], 60),
    ("graph", "cifar10", [], 40),
    ("ops", "cifar10", [], 60),
    ("up", "cifar10", [], 40),
    ("attention", "cifar10", [], 60),
    ("sampling", "cifar10", ["sample.num_inference_steps=100"], 60),
    ("overlap", "cifar10", ["--only", "side_stream"], 40),
    ("conv", "cifar10", [], 120),
    ("norm", "lsun256", [], 60),
    ("graph", "unet64", [], 30),
    ("ops", "lsun256", [], 60),
    ("overlap", "cifar10", [], 90),
    ("conv", "unet64", [], 90),
    ("conv", "lsun256", [], 120),
)


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


def micro_command(o, name, result, seconds):
    """Of a microbenchmark, or of the program's own."""
    autotune = os.path.join(o.build, "autotune.txt")
    if name == "ops":
        ddpm = os.path.join(o.build, "ddpm")
        return [ddpm, "bench", name, "--json", result, "device=cuda", f"seconds={seconds}", "autotune_cache=" + autotune]
    mb = os.path.join(o.build, "bench", "mb", "mb")
    return [mb, name, "--device", "cuda", "--json", result, "--autotune", autotune, "--seconds", str(seconds)]


def micro(r, o):
    if not need(r, o, "bench/mb/mb", "ddpm"):
        return
    gpu_note(r, "gpu_before")
    results = {}
    for name, config, more, most in MICRO:
        key = name + (f"-{config}" if config else "") + ("-" + more[1] if more[:1] == ["--only"] else "")
        result = os.path.join(o.out, f"mb-{key}.json")
        seconds = max(1, int(min(most, r.left()) - 15))
        command = micro_command(o, name, result, seconds // 2 if name == "ops" else seconds)
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
        r.check(
            key, code == 0, "time up" if code is None else last_line(output) + (f"; {wrong} wrong" if wrong else "")
        )
    gpu_note(r, "gpu_after")


# ---- beside PyTorch -----------------------------------------------------------------------------


def compare(mode, network):
    def stage(r, o):
        ddpm = need(r, o, "ddpm")
        python = machine.python_for_torch()
        if not ddpm or not python:
            if not python:
                r.check("PyTorch", False, "no Python here has it")
            return
        config, batch = NETWORKS[network]
        result = os.path.join(o.out, f"compare-{mode}-{network}.json")
        command = [
            python,
            "bench/compare",
            mode,
            config,
            "--ddpm",
            ddpm,
            "--python",
            python,
            "--device",
            "cuda",
            "--batch",
            str(batch if mode == "train" else min(batch, 64)),
            "--json",
            result,
            "--record",
            os.path.join(o.out, "results.csv"),
            "--seconds",
            str(max(60, int(r.left() - 30))),
        ]
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
    run_check(
        r, "sampling", [ddpm, "sample", run, "count=64", "batch=64", "grid=8", "device=cuda"], env=o.env, most=120
    )
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
