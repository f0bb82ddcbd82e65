"""common.py - what train.py and sample.py share: settings, time on request, JSON."""

import argparse
import contextlib
import json
import os
import sys
import time

import net
import settings
import torch
import variants


def arguments(about, mode):
    p = argparse.ArgumentParser(description=about)
    p.add_argument("config", help="configs/<name>.yaml")
    p.add_argument("--variant", default="fp32-eager-nhwc", help="words of variants.py")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cuda", "cpu"])
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--batch", type=int, default=0, help="0: the configuration's")
    p.add_argument("--weights", default="", help="pipeline folder to begin with")
    p.add_argument("--images", default="", help="raw u8 NHWC; else random bytes")
    p.add_argument("--warmup", type=int, default=50)
    p.add_argument("--repeats", type=int, default=200)
    p.add_argument("--steps", type=int, default=0, help="sample.py: network evaluations an image, 0: all")
    p.add_argument("--sampler", default="ddpm", choices=["ddpm", "ddim"])
    p.add_argument("--no-dropout", action="store_true")
    p.add_argument("--serve", action="store_true", help="answer to numbers of turns on the standard input")
    p.add_argument("--json", default="", help="file for the result")
    o = p.parse_args()
    o.v = variants.parse(o.variant)
    o.options, o.settings = settings.options_of_yaml(o.config)
    if o.no_dropout:
        o.options["dropout"] = 0.0
    o.batch = o.batch or settings.batch_of_yaml(o.config, mode)
    return o


def prepare(o):
    """Global switches, as a careful user sets them."""
    if o.threads:
        torch.set_num_threads(o.threads)
    torch.manual_seed(0)
    fast = o.v["precision"] != "fp32"
    if o.device == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.benchmark_limit = 10 if "limit10" in o.v["flags"] else 0
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = fast
    if o.v["mode"] != "eager":
        import torch._inductor.config as inductor

        if "tuned" in o.v["flags"]:
            for name in (
                "coordinate_descent_tuning",
                "epilogue_fusion",
                "shape_padding",
                "layout_optimization",
                "conv_1x1_as_mm",
            ):
                if hasattr(inductor, name):
                    setattr(inductor, name, True)


def create(o):
    n = net.create(o.v["net"], o.options)
    if o.weights:
        n.load_diffusers(net.pipeline_state(o.weights))
    n = n.to(o.device)
    return n.to(memory_format=torch.channels_last) if o.v["layout"] == "nhwc" else n


def compiled(o, function):
    mode = variants.MODE[o.v["mode"]]
    return function if mode is None else torch.compile(function, mode=mode, fullgraph=o.v["net"] == "clean")


def autocast(o):
    if o.v["precision"] == "bf16":
        return torch.autocast(o.device, torch.bfloat16)
    return contextlib.nullcontext()


def images(o):
    """u8 [count, c, h, w] on the device, in the layout of the network."""
    size, c = o.options["sample_size"], o.options["in_channels"]
    if o.images:
        data = torch.frombuffer(bytearray(open(o.images, "rb").read()), dtype=torch.uint8)
        each = size * size * c
        data = data[: data.numel() // each * each].reshape(-1, size, size, c)
    else:
        data = torch.randint(0, 256, (max(2048, o.batch), size, size, c), dtype=torch.uint8)
    data = data.to(o.device).permute(0, 3, 1, 2)
    return data if o.v["layout"] == "nhwc" else data.contiguous()


def process_age():
    """Seconds since this process began, the import of PyTorch included."""
    with open("/proc/self/stat") as f:
        began = int(f.read().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began


def synchronize(o):
    if o.device == "cuda":
        torch.cuda.synchronize()


def time_turns(o, turn, n):
    """ms of each of n turns, by events where there are any, and of all by the clock."""
    synchronize(o)
    begin = time.perf_counter()
    if o.device == "cuda":
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(n + 1)]
        marks[0].record()
        for mark in marks[1:]:
            turn()
            mark.record()
        synchronize(o)
        wall = time.perf_counter() - begin
        return [a.elapsed_time(b) for a, b in zip(marks, marks[1:])], 1e3 * wall
    times = []
    for _ in range(n):
        from_ = time.perf_counter()
        turn()
        times.append(1e3 * (time.perf_counter() - from_))
    return times, 1e3 * (time.perf_counter() - begin)


def quantiles(ms):
    s = sorted(ms)

    def at(q):
        x = q * (len(s) - 1)
        i = int(x)
        return s[i] + (x - i) * (s[min(i + 1, len(s) - 1)] - s[i])

    return {"median": at(0.5), "p10": at(0.1), "p90": at(0.9), "min": s[0], "max": s[-1], "n": len(s)}


def memory(o):
    """Bytes: the most this process had; on a device what tensors took at most, and what PyTorch held of it."""
    found = {"host_peak_bytes": host_peak()}
    if o.device == "cuda":
        found["memory_bytes"] = torch.cuda.max_memory_allocated()
        found["reserved_bytes"] = torch.cuda.max_memory_reserved()
    return found


def host_peak():
    with open("/proc/self/status") as f:
        return next((1024 * int(line.split()[1]) for line in f if line.startswith("VmHWM:")), 0)


def versions(o):
    found = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    if o.device == "cuda":
        found.update(device=torch.cuda.get_device_name(), cuda=torch.version.cuda, cudnn=torch.backends.cudnn.version())
    return found


def say(value):
    print(json.dumps(value), flush=True)


def run(o, turn, more, divide=1):
    """Answer requests, or time once; `more()` is what else to say, `divide` the evaluations of a turn."""
    about = {"variant": o.variant, "batch": o.batch, "versions": versions(o)}
    if o.serve:
        say({"ready": True, **about, **more()})
        for line in sys.stdin:
            ms, wall = time_turns(o, turn, int(line))
            say({"n": len(ms), "ms": [t / divide for t in ms], "wall_ms": wall, **more(), **memory(o)})
        return
    ms, wall = time_turns(o, turn, o.repeats)
    result = {
        **about,
        "time": quantiles([t / divide for t in ms]),
        "wall_ms": wall / len(ms) / divide,
        **more(),
        **memory(o),
    }
    t = result["time"]
    print(f"{o.variant}: {t['median']:.4f} ms (p10 {t['p10']:.4f}, p90 {t['p90']:.4f})")
    if o.json:
        with open(o.json, "w") as f:
            json.dump(result, f, indent=1)
