"""check_golden.py - gen_golden.py --verify: are the stored fixtures what PyTorch says today?

Three questions: does a second run make the same files; does diffusers load every stored network and
agree, in float32, with what is stored; is each stored trajectory and sample as far from its float32
twin as rounding explains?
"""

import glob
import os

import numpy as np
import torch
from diffusers import DDPMPipeline

import oracle
from oracle import load_tensors, rel_l2

SIZE_LIMIT = 4 << 20
FLOAT32_LIMIT = 3e-5  # of one forward and backward pass
LOSS_LIMIT, SAMPLE_LIMIT = 1e-5, 1e-4  # of a whole run


def files_of(folder):
    paths = (os.path.relpath(os.path.join(d, f), folder) for d, _, files in os.walk(folder) for f in files)
    return sorted(p for p in paths if p.endswith((".safetensors", ".json")))


def compare_file(stored, fresh):
    """'same bytes', or the largest rel_l2 of two safetensors files, or what differs; and whether that is fine."""
    if not os.path.exists(stored):
        return "missing", False
    with open(stored, "rb") as a, open(fresh, "rb") as b:
        if a.read() == b.read():
            return "same bytes", True
    if not stored.endswith(".safetensors"):
        return "differs", os.path.basename(stored) == "VERSIONS.json"
    a, b = load_tensors(stored), load_tensors(fresh)
    if {k: (v.shape, v.dtype) for k, v in a.items()} != {k: (v.shape, v.dtype) for k, v in b.items()}:
        return "other tensors", False
    worst = max(a, key=lambda name: rel_l2(a[name], b[name]))
    error = rel_l2(a[worst], b[worst])
    return f"{worst} differs by {error:.2g}", error < FLOAT32_LIMIT


def check_network(folder):
    """The largest rel_l2 of any tensor of io.safetensors, diffusers running in float32."""
    io = load_tensors(os.path.join(folder, "io.safetensors"))
    given = {name: io[name] for name in ("labels", "vectors") if name in io}
    result = oracle.unet_forward_backward(oracle.load_unet(folder), io["x"], io["t"], io["dout"], given)
    assert set(result) | {"x", "t", "dout"} == set(io), folder
    # The gradient of a parameter that cannot matter (the key's bias) is rounding noise around 0.
    scale = max(np.abs(a).max() for name, a in io.items() if name.startswith("grad."))
    errors = {n: rel_l2(a, io[n]) for n, a in result.items() if np.abs(io[n]).max() > 1e-6 * scale}
    zeros = [n for n in result if n not in errors]
    assert all(np.abs(result[n]).max() < 1e-5 * scale for n in zeros), folder
    name = max(errors, key=errors.get)
    parameters = sum(a.size for n, a in io.items() if n.startswith("grad."))
    return f"{parameters} parameters, float32 differs by {errors[name]:.2g} ({name})", errors[name] < FLOAT32_LIMIT


def check_pipeline(folder):
    """Each form of the pipeline through diffusers' own readers."""
    io = load_tensors(os.path.join(folder, "io.safetensors"))
    nets = {
        "current": DDPMPipeline.from_pretrained(os.path.join(folder, "current"), local_files_only=True).unet,
        "legacy": DDPMPipeline.from_pretrained(os.path.join(folder, "legacy"), local_files_only=True).unet,
        "half": oracle.load_unet(os.path.join(folder, "half")),
        "bfloat": oracle.load_unet(os.path.join(folder, "bfloat")),
    }
    errors = {}
    for name, unet in nets.items():
        with torch.no_grad():
            out = unet.eval()(oracle.nchw(io["x"]), torch.from_numpy(io["t"])).sample
        errors[name] = rel_l2(oracle.nhwc(out), io["out." + name.replace("legacy", "current")])
    return ", ".join(f"{n} {e:.2g}" for n, e in errors.items()), max(errors.values()) < FLOAT32_LIMIT


def check_run(path):
    """A trajectory or a sample against its float32 twin."""
    io = load_tensors(path)
    errors = {n: rel_l2(io["float32." + n], io[n]) for n in io if "float32." + n in io}
    limit = LOSS_LIMIT if "losses" in io else SAMPLE_LIMIT
    text = ", ".join(f"{n} {e:.2g}" for n, e in errors.items())
    if "losses" in io:
        text += f", weights {io['float32.weights_rel_l2'][0]:.2g}, loss {io['losses'][0]:.4f} to {io['losses'][-1]:.4f}"
    return "float32 differs by " + text, bool(errors) and max(errors.values()) < limit


def run(golden, fresh):
    """Prints one line a file or network; 0 when all is well."""
    rows = [(path, *compare_file(os.path.join(golden, path), os.path.join(fresh, path))) for path in files_of(fresh)]
    rows = [row for row in rows if row[1] != "same bytes"] or [("every file", "same bytes", True)]
    extra = sorted(set(files_of(golden)) - set(files_of(fresh)))
    rows += [(path, "not made by gen_golden.py", False) for path in extra]
    for folder in sorted(glob.glob(os.path.join(golden, "unet_*"))):
        rows.append((os.path.basename(folder), *check_network(folder)))
    rows.append(("pipeline", *check_pipeline(os.path.join(golden, "pipeline"))))
    for kind in ("trajectory", "sampling"):
        for path in sorted(glob.glob(os.path.join(golden, kind, "*", "io.safetensors"))):
            rows.append((os.path.relpath(os.path.dirname(path), golden), *check_run(path)))
    size = sum(os.path.getsize(os.path.join(golden, path)) for path in files_of(golden))
    rows.append(("all", f"{size} bytes of at most {SIZE_LIMIT}", size <= SIZE_LIMIT))
    for name, text, fine in rows:
        print("ok  " if fine else "BAD ", name + ":", text)
    return 0 if all(fine for _, _, fine in rows) else 1
