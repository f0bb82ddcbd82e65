"""stages.py - the stages of tools/gpu_check; each is a function of (report, options)."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess

from gpu import machine
from gpu.correct import autotuned, correct, sanitize, tests
from gpu.report import write_json
from gpu.schedule import Stage
from gpu.steps import (
    NETWORK_TESTS,
    OP_TESTS,
    fresh,
    gpu_note,
    jobs,
    last_line,
    load,
    losses,
    need,
    run_check,
    target_and_path,
)


# ---- build ------------------------------------------------------------------------------------


def configure_command(r, o):
    command = ["cmake", "-S", ".", "-B", o.build, "-DTESTS=ON", *o.rig.options]
    capability = (r.found["gpu"] or {}).get("compute_cap", "").replace(".", "")
    if capability.isdigit():  # the kernels for this device alone: the others take most of the time
        command.append("-DCUDA_ARCHS=" + capability)
    if not os.path.exists(os.path.join(o.build, "CMakeCache.txt")):
        command += ["-G", "Ninja"] if shutil.which("ninja") else []
    return command


def targets(o):
    """What the other stages run, as far as this build has it; the rest of the suite needs no GPU."""
    text = machine.text_of(["cmake", "--build", o.build, "--target", "help"], o.env)
    known = set(re.findall(r"^(?:\.\.\. )?([\w.-]+)", text, re.M))
    wanted = [target_and_path(o, name)[0] for name in ("ddpm", "mb", *NETWORK_TESTS, *OP_TESTS)]
    return [t for t in wanted if t in known]


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
    good, output = run_check(r, "configure", configure_command(r, o), env=o.env)
    if not good:
        return
    r.check(
        "tests are configured", "No tests:" not in output, "Criterion and Random123" if "No tests:" in output else ""
    )
    good, _ = run_check(r, "compile", ["cmake", "--build", o.build, "-j", jobs(), "--target", *targets(o)], env=o.env)
    if not good:
        return
    run_check(r, "program starts", [os.path.join(o.build, target_and_path(o, "ddpm")[1]), "--version"], env=o.env)
    describe_device(r, o)


def describe_device(r, o):
    mb = need(r, o, "mb")
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


# ---- parts of a step --------------------------------------------------------------------------


def micro_result(o, key):
    return os.path.join(o.out, f"mb-{key}.json")


def ops_command(r, o, result):
    """The program's own microbenchmark."""
    return [need(r, o, "ddpm"), "bench", "ops", "--json", result, "device=cuda", f"seconds={int(r.left() / 2)}"]


def mb_command(r, o, name, result):
    mb = need(r, o, "mb")
    if not re.search(rf"^ +{name} ", machine.text_of([mb, "--help"], o.env), re.M):
        return None
    return [mb, name, "--device", "cuda", "--json", result, "--seconds", str(int(r.left() * 0.8))]


def micro(name, network, *more):
    """A microbenchmark of bench/mb, or `ddpm bench ops`, on a network's shapes."""

    def stage(r, o):
        if not need(r, o, "ddpm", "mb"):
            return
        result = micro_result(o, r.stage[len("micro-") :])
        command = ops_command(r, o, result) if name == "ops" else mb_command(r, o, name, result)
        if not command:
            r.check(name, None, "not in this build")
            return
        autotune = os.path.join(o.build, "autotune.txt")
        command += ["autotune_cache=" + autotune] if name == "ops" else ["--autotune", autotune]
        config, batch = o.rig.configs[network]
        if os.path.exists(result):
            os.remove(result)
        gpu_note(r, "gpu_before")
        command += [config, f"train.batch={batch}"] + [m.format(**o.rig._asdict()) for m in more]
        code, output = r.run(command, env=o.env)
        gpu_note(r, "gpu_after")
        found = load(result) if os.path.exists(result) else {}
        r.put("result", found)
        if code == 0 and found.get("rows") == []:
            r.check(name, None, "this build has no such row")
            return
        wrong = f"; {found['wrong']} wrong" if found.get("wrong") else ""
        r.check(name, code == 0, "time up" if code is None else last_line(output) + wrong)

    return stage


def micro_row(name, network, estimate, limit, about, *more):
    """Its name says what is measured, and on what where there is more than one."""
    key = "-".join(["micro", name, network, *(more[1:2] if more[:1] == ("--only",) else [])])
    return Stage(key, micro(name, network, *more), estimate, limit, about)


def in_pytorch(key):
    """The shapes that a microbenchmark measured, in PyTorch, into the same rows."""

    def stage(r, o):
        python, result = machine.python_for_torch(), micro_result(o, key)
        if not python or not os.path.exists(result):
            r.check(key, None, f"run micro-{key} first" if python else "no Python here has PyTorch")
            return
        both = os.path.join(o.out, f"mb-{key}-pytorch.json")
        code, output = r.run([python, "bench/pytorch/ops.py", result, "--out", both], env=o.plain)
        if os.path.exists(both):
            r.put("result", load(both))
        r.check(key, code == 0, "time up" if code is None else last_line(output))

    return stage


# ---- beside PyTorch -----------------------------------------------------------------------------


def compare(mode, network, variants):
    """`variants`: of PyTorch, unless the caller names some: "likely" or "all"."""

    def stage(r, o):
        ddpm = need(r, o, "ddpm")
        python = machine.python_for_torch()
        if not ddpm or not python:
            if not python:
                r.check("PyTorch", False, "no Python here has it")
            return
        config, batch = o.rig.configs[network]
        result = os.path.join(o.out, f"compare-{r.stage}.json")
        command = [
            python,
            "bench/compare",
            mode,
            config,
            "--ddpm",
            ddpm,
            "--python",
            python,
            "--batch",
            str(batch if mode == "train" else min(batch, 64)),
            "--json",
            result,
            "--record",
            os.path.join(o.out, "results.csv"),
            "--seconds",
            str(max(60, int(r.left() - 30))),
            "--variants",
            o.variants or variants,
            *o.rig.compare,
        ]
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
        command = [ddpm, "train", o.rig.configs["quickstart"][0], "train.steps=20000", "device=cuda", "out=" + run]
    seconds = max(5.0, min(o.rig.seconds, r.left() - 120))
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
    run_check(r, "sampling", [ddpm, "sample", run, "device=cuda", *o.rig.sample], env=o.env, most=120)
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


SAMPLING = ("--batches", "{batches}", "sample.num_inference_steps={evaluations}")

# The most important first.  The seconds are estimates for an H200 with 16 processors; none was measured on a GPU yet.
STAGES = (
    Stage("build", build, 90, 400, "configure and build into --build; describe the device, also as cuDNN does"),
    micro_row("conv", "cifar10", 60, 120, "every engine of every convolution, each checked and timed"),
    Stage("tests-autotuned", autotuned(NETWORK_TESTS, "bf16"), 60, 150, "whole networks with the raced winners"),
    Stage("correct", correct, 90, 180, "run twice and resumed, bit for bit; losses, samples as on the processor"),
    Stage("tests-bf16", tests(NETWORK_TESTS, "bf16"), 60, 150, "networks and loops against their references"),
    micro_row("graph", "cifar10", 30, 60, "the kernels of a training step and the gaps between them"),
    micro_row("norm", "cifar10", 40, 75, "group normalization of every shape"),
    Stage("train-cifar10", compare("train", "cifar10", "likely"), 130, 240, "training beside PyTorch's likely fastest"),
    Stage("sample-cifar10", compare("sample", "cifar10", "likely"), 80, 180, "sampling beside the same"),
    micro_row("overlap", "cifar10", 30, 60, "a step with and without the side stream", "--only", "side_stream"),
    micro_row("sampling", "cifar10", 40, 75, "loop on the device, replayed, launched", *SAMPLING),
    Stage("ops-bf16", tests(OP_TESTS, "bf16"), 150, 300, "every op against its reference in double precision"),
    Stage("tests-fp32", tests(NETWORK_TESTS, "fp32"), 60, 150, "as tests-bf16"),
    Stage("tests-tf32", tests(NETWORK_TESTS, "tf32"), 60, 150, "as tests-bf16"),
    Stage("sanitize", sanitize, 300, 540, "compute-sanitizer's tools over small shapes"),
    Stage("in_pytorch-conv-cifar10", in_pytorch("conv-cifar10"), 60, 120, "the shapes of micro-conv in PyTorch"),
    Stage("in_pytorch-norm-cifar10", in_pytorch("norm-cifar10"), 60, 120, "the shapes of micro-norm in PyTorch"),
    micro_row("ops", "cifar10", 40, 75, "ddpm bench ops: each step of the plan in its place"),
    micro_row("up", "cifar10", 30, 60, "upsampling convolutions, folded and not"),
    micro_row("attention", "cifar10", 40, 75, "attention, fused and from products"),
    micro_row("overlap", "cifar10", 60, 105, "a step with and without each optimization"),
    micro_row("norm", "lsun256", 40, 75, "as micro-norm-cifar10"),
    micro_row("conv", "unet64", 60, 120, "as micro-conv-cifar10"),
    micro_row("conv", "lsun256", 60, 135, "as micro-conv-cifar10"),
    micro_row("graph", "unet64", 30, 60, "as micro-graph-cifar10"),
    micro_row("ops", "lsun256", 40, 75, "as micro-ops-cifar10"),
    Stage("train-unet64", compare("train", "unet64", "likely"), 130, 240, "as train-cifar10"),
    Stage("train-lsun256", compare("train", "lsun256", "likely"), 160, 300, "as train-cifar10"),
    Stage("sample-lsun256", compare("sample", "lsun256", "likely"), 120, 240, "as sample-cifar10"),
    Stage("ops-fp32", tests(OP_TESTS, "fp32"), 150, 300, "as ops-bf16"),
    Stage("ops-tf32", tests(OP_TESTS, "tf32"), 150, 300, "as ops-bf16"),
    Stage("variants-train-cifar10", compare("train", "cifar10", "all"), 400, 540, "beside all variants of PyTorch"),
    Stage("variants-sample-cifar10", compare("sample", "cifar10", "all"), 400, 540, "beside all variants of PyTorch"),
    Stage("run", real_run, 200, 400, "a real run of some minutes: loss curve and samples"),
)
