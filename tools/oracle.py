"""oracle.py - what the golden fixtures are computed from: PyTorch, diffusers, numpy and the papers.

Nothing here calls or mirrors the C sources line by line. The noise is Philox4x32-10 of Salmon et
al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), written anew in numpy; the schedules
are written from their formulas in double.

Two precisions run everywhere. "exact" is float64 from end to end (the network, the schedule, the
optimizer) and is what a fixture stores, rounded once; "plain" is diffusers as its users run it, in
float32. Their distance is PyTorch's own rounding error, and with it the scale of a fair tolerance.
The sinusoidal time embedding is diffusers' float32 one in both.
"""

import json
import os
import platform

import diffusers
import numpy as np
import safetensors
import torch
from diffusers import DDPMScheduler, UNet2DModel
from safetensors.numpy import load_file, save_file

T = 1000  # timesteps of every schedule here
BETA_START, BETA_END = 1e-4, 0.02

# Streams of the noise: the last word of the Philox counter.
NOISE_TRAIN_EPS, NOISE_TRAIN_T, NOISE_SAMPLE_INIT, NOISE_SAMPLE_STEP = 0, 1, 3, 4


def be_deterministic():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()


def versions():
    modules = {"torch": torch, "diffusers": diffusers, "numpy": np, "safetensors": safetensors}
    return {"python": platform.python_version(), **{name: m.__version__ for name, m in modules.items()}}


# ---- noise ------------------------------------------------------------------------------------


def philox(counter, seed):
    """The four output words, uint64 [..., 4] below 2^32, of counter words [..., 4] under a 64-bit seed."""
    low = np.uint64(0xFFFFFFFF)
    c = [np.asarray(counter, np.uint64)[..., i] for i in range(4)]
    k = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [
            (p1 >> np.uint64(32)) ^ c[1] ^ np.uint64(k[0]),
            p1 & low,
            (p0 >> np.uint64(32)) ^ c[3] ^ np.uint64(k[1]),
            p0 & low,
        ]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return np.stack(c, axis=-1)


def counters(quads, ids, c2, stream):
    """Counter words [len(ids), quads, 4]: (quad, low word of id, c2 or the high word of id, stream)."""
    c = np.zeros((len(ids), quads, 4), np.uint64)
    ids = np.asarray(ids, np.uint64)[:, None]
    c[..., 0] = np.arange(quads, dtype=np.uint64)
    c[..., 1] = ids & np.uint64(0xFFFFFFFF)
    c[..., 2] = ids >> np.uint64(32) if c2 is None else np.uint64(c2)
    c[..., 3] = stream
    return c


def box_muller(words):
    """Normals [..., 4] of words [..., 4]: sqrt(-2 ln u) (cos, sin)(2 pi w1 / 2^32) from the pairs (w0, w1)
    and (w2, w3), u = (floor(w0 / 256) + 1) / 2^24 in (0, 1]."""
    first, second = words[..., 0::2], words[..., 1::2]
    radius = np.sqrt(-2 * np.log(((first >> np.uint64(8)).astype(np.float64) + 1) / 2**24))
    angle = 2 * np.pi * second.astype(np.float64) / 2**32
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1).reshape(words.shape)


def normals(shape, ids, seed, stream, c2=None):
    """Standard normals float64 [n, h, w, c] for images `ids`; element i in NHWC order has quad i // 4."""
    size = int(np.prod(shape))
    words = philox(counters((size + 3) // 4, ids, c2, stream), seed)
    return box_muller(words).reshape(len(ids), -1)[:, :size].reshape(len(ids), *shape)


def train_noise(shape, ordinals, seed):
    return normals(shape, ordinals, seed, NOISE_TRAIN_EPS)


def train_timesteps(ordinals, seed):
    """t int64 [n], uniform in [0, T): (word0 * T) >> 32."""
    word = philox(counters(1, ordinals, None, NOISE_TRAIN_T), seed)[:, 0, 0]
    return ((word * np.uint64(T)) >> np.uint64(32)).astype(np.int64)


def train_labels(labels, ordinals, seed, dropout, null):
    """int64 [n]: the images' labels [n], or `null` with probability `dropout`, by word 2 of the draw of the timestep."""
    word = philox(counters(1, ordinals, None, NOISE_TRAIN_T), seed)[:, 0, 2]
    return np.where((word >> np.uint64(8)).astype(np.float64) / 2**24 < dropout, null, labels)


def check_philox():
    """Known answers of Random123 1.14, tests/kat_vectors."""
    pi = ([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], 0x299F31D0A4093822)
    ones = ([0xFFFFFFFF] * 4, 0xFFFFFFFFFFFFFFFF)
    for (counter, seed), answer in {
        0: (([0] * 4, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        1: (ones, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        2: (pi, "d16cfe09 94fdcceb 5001e420 24126ea1"),
    }.values():
        got = " ".join(f"{int(w):08x}" for w in philox(np.array(counter, np.uint64), seed))
        assert got == answer, f"philox: {got} for {answer}"


# ---- schedules, in double ---------------------------------------------------------------------


def cosine_bar(t):
    return np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2


def betas_exact(name):
    if name == "linear":
        return np.linspace(BETA_START, BETA_END, T)
    if name == "scaled_linear":
        return np.linspace(BETA_START**0.5, BETA_END**0.5, T) ** 2
    if name == "squaredcos_cap_v2":
        i = np.arange(T)
        return np.minimum(1 - cosine_bar((i + 1) / T) / cosine_bar(i / T), 0.999)
    if name == "sigmoid":
        return (BETA_END - BETA_START) / (1 + np.exp(-np.linspace(-6, 6, T))) + BETA_START
    raise ValueError(name)


def abar_exact(name="linear"):
    return np.cumprod(1 - betas_exact(name))


def posterior_mean(abar, t, previous):
    """q(x_p | x_t, x_0) = N(a x_0 + b x_t, var I), eq. 6 and 7 of the paper, with p = t - 1 there.
    Float64 a, b, var for arrays t and previous; previous = -1 is the image itself (abar = 1)."""
    t, previous = np.asarray(t), np.asarray(previous)
    bar, bar_p = abar[t], np.where(previous >= 0, abar[previous], 1.0)
    alpha = bar / bar_p
    a = np.sqrt(bar_p) * (1 - alpha) / (1 - bar)
    b = np.sqrt(alpha) * (1 - bar_p) / (1 - bar)
    return a, b, (1 - bar_p) / (1 - bar) * (1 - alpha)


def exact_scheduler(scheduler, schedule="linear"):
    """diffusers' own scheduler code, its tables replaced by float64 ones."""
    scheduler.betas = torch.from_numpy(betas_exact(schedule))
    scheduler.alphas = 1 - scheduler.betas
    scheduler.alphas_cumprod = torch.from_numpy(abar_exact(schedule))
    scheduler.one = torch.tensor(1.0, dtype=torch.float64)
    return scheduler


def ddpm_scheduler(exact=False, **options):
    options = {"beta_schedule": "linear", "beta_start": BETA_START, "beta_end": BETA_END, **options}
    scheduler = DDPMScheduler(num_train_timesteps=T, **options)
    return exact_scheduler(scheduler, options["beta_schedule"]) if exact else scheduler


# ---- networks ---------------------------------------------------------------------------------


def randomise(module, seed, gain=1.0):
    """Every parameter anew, in name order: scales near 1 and biases near 0 but never equal to them
    (a network with gamma = 1 and beta = 0 hides errors), weights N(0, gain / fan_in)."""
    random = np.random.RandomState(seed)
    with torch.no_grad():
        for name, p in sorted(module.named_parameters()):
            z = random.standard_normal(tuple(p.shape))
            if p.dim() > 1:
                z *= np.sqrt(gain / (p.numel() / p.shape[0]))
            elif name.endswith("weight"):
                z = 1 + 0.2 * z
            else:
                z *= 0.1
            p.copy_(torch.from_numpy(z.astype(np.float32)))
    return module


def random_unet(config, seed, gain=1.0):
    return randomise(UNet2DModel(**config), seed, gain).eval()


def load_unet(folder, exact=False):
    unet = UNet2DModel.from_pretrained(folder).eval()
    return unet.double() if exact else unet.float()


def nchw(a, dtype=torch.float32):
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(a, -1, 1))).to(dtype)


def nhwc(t):
    return np.ascontiguousarray(np.moveaxis(t.detach().numpy(), 1, -1))


def forward_backward(call, module, x, dout):
    """call(x) NHWC and the gradients of sum(call(x) * dout): {"out", "dx", "grad.<name>"}, in the module's dtype."""
    dtype = next(module.parameters()).dtype
    module.zero_grad()
    x = nchw(x, dtype).requires_grad_()
    out = call(x)
    (out * nchw(dout, dtype)).sum().backward()
    result = {"out": nhwc(out), "dx": nhwc(x.grad)}
    for name, p in module.named_parameters():
        result["grad." + name] = p.grad.numpy().copy()
    return result


def convert_class_timesteps(unet):
    """class_embed_type timestep in float64: time_proj is float32, and diffusers converts only the embedding of t."""
    if unet.config.class_embed_type == "timestep":
        unet.class_embedding.register_forward_pre_hook(lambda module, given: (given[0].to(unet.dtype), *given[1:]))


def unet_forward_backward(unet, x, t, dout, given=None):
    """given: {"labels": i64 [n]} or {"vectors": float [n, 4 C0]}, for a network with classes; with vectors the result
    has their gradient, "dvectors"."""
    steps, labels = torch.from_numpy(t), None
    for value in (given or {}).values():
        labels = torch.from_numpy(value)
    if labels is not None and labels.is_floating_point():
        labels = labels.to(unet.dtype).requires_grad_()
    convert_class_timesteps(unet)
    result = forward_backward(lambda sample: unet(sample, steps, class_labels=labels).sample, unet, x, dout)
    if labels is not None and labels.requires_grad:
        result["dvectors"] = labels.grad.numpy()
    return result


# ---- files ------------------------------------------------------------------------------------


def rel_l2(a, b):
    """|a - b| / |b|, both as float64 vectors; 0 when both are zero."""
    a, b = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
    norm = np.linalg.norm(b)
    return np.linalg.norm(a - b) / norm if norm else np.linalg.norm(a)


def as_float32(tensors):
    return {name: np.asarray(a).astype(np.float32) for name, a in tensors.items()}


def save_tensors(path, tensors, about):
    """One metadata key only: the order of several is not fixed, and the bytes of a fixture are."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    arrays = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    save_file(arrays, path, metadata={"about": about})


def save_json(path, value):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(json.dumps(value, indent=2, sort_keys=True) + "\n")


load_tensors = load_file
