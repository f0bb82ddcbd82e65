#!/usr/bin/env python3
"""gen_golden.py - makes the golden fixtures of tests/golden from PyTorch and diffusers.

    python3 -m venv oracle && oracle/bin/pip install torch diffusers safetensors numpy pillow
    oracle/bin/python tools/gen_golden.py                     write tests/golden anew
    oracle/bin/python tools/gen_golden.py --verify            recompute, compare with tests/golden
    oracle/bin/python tools/gen_golden.py --check BUILD       libddpm in BUILD against PyTorch, live

tests/golden/README.md says what each file holds.
"""

import argparse
import gzip
import os
import shutil
import sys
import tempfile

import numpy as np
import torch
from diffusers import DDPMPipeline, UNet2DModel
from diffusers.schedulers import scheduling_ddpm
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel

import oracle
from oracle import T, as_float32, ddpm_scheduler, nchw, nhwc, rel_l2, save_tensors

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
GOLDEN = os.path.join(ROOT, "tests", "golden")
WEIGHTS = "diffusion_pytorch_model.safetensors"

D, A, U, AU = "DownBlock2D", "AttnDownBlock2D", "UpBlock2D", "AttnUpBlock2D"


def config(size, channels, down, up, widths, layers, groups, head_dim, **more):
    """The options that every fixture sets; the rest are diffusers' own defaults."""
    return {
        "sample_size": size,
        "in_channels": channels,
        "out_channels": channels,
        "down_block_types": down,
        "up_block_types": up,
        "block_out_channels": widths,
        "layers_per_block": layers,
        "norm_num_groups": groups,
        "attention_head_dim": head_dim,
        **more,
    }


# The recipe of the paper, as diffusers spells it.
PAPER = {"downsample_padding": 0, "flip_sin_to_cos": False, "freq_shift": 1, "norm_eps": 1e-6}
SHIFT = {"resnet_time_scale_shift": "scale_shift"}

# name: (timesteps, config)
UNETS = {
    "cifar": ([0, 999, 417], config(12, 3, (D, A, D), (U, AU, U), (4, 6, 6), 2, 2, None, **PAPER)),
    "defaults": ([999, 3], config(16, 3, (D, A, A, A), (AU, AU, AU, U), (4, 4, 6, 8), 2, 2, 2)),
    "grey_one_layer": ([0, 1, 500, 999], config(8, 1, (D, A), (AU, U), (4, 8), 1, 2, 2)),
    "three_layers": ([37, 998], config(8, 3, (A, D), (U, AU), (4, 4), 3, 2, None, **PAPER)),
    "non_square": ([999, 0, 250], config((8, 12), 3, (D, D, A), (AU, U, U), (4, 6, 6), 1, 2, 3, **PAPER)),
    "scale_shift": ([5, 700], config(8, 3, (D, A), (AU, U), (4, 8), 1, 4, 4, **SHIFT)),
    "scale_shift_norm": ([0, 999], config(8, 3, (D, D), (U, U), (8, 8), 1, 8, 8, **SHIFT, attn_norm_num_groups=2)),
    "no_attention": ([0, 640], config(8, 3, (D, D), (U, U), (4, 6), 1, 2, 8, add_attention=False)),
    "no_mid_out_6": ([873], config(8, 3, (D, A), (AU, U), (8, 12), 1, 4, 4, mid_block_type=None, out_channels=6)),
    "single_block": ([0, 999, 1], config((5, 7), 1, (A,), (AU,), (8,), 1, 4, 4)),
    "all_attention": ([321, 0], config(6, 3, (A, A), (AU, AU), (6, 9), 1, 3, 3, **PAPER)),
    "odd_widths": ([999, 64, 0], config((4, 6), 3, (A, D), (U, AU), (9, 6), 1, 3, None, **PAPER)),
    "centred": ([0, 999], config(8, 3, (D, A), (AU, U), (4, 8), 1, 2, 8, center_input_sample=True)),
    "classes": ([0, 999, 417, 80], config(8, 3, (D, A), (AU, U), (4, 6), 1, 2, None, **PAPER, num_class_embeds=5)),
    "classes_grey": ([3, 640, 999], config((6, 4), 1, (A, D), (U, AU), (6, 4), 2, 2, 2, **SHIFT, num_class_embeds=3)),
    "classes_single": ([500, 1], config(5, 2, (D,), (AU,), (8,), 1, 4, 4, num_class_embeds=1, mid_block_type=None)),
    "classes_three": ([999, 0, 5], config(8, 3, (D, D, A), (AU, U, U), (4, 4, 6), 1, 2, 3, num_class_embeds=11)),
    "classes_timestep": ([7, 800, 31], config(8, 3, (D, A), (AU, U), (4, 8), 1, 2, 4, class_embed_type="timestep")),
    "classes_identity": ([0, 600], config(8, 1, (A, D), (U, AU), (4, 6), 1, 2, None, class_embed_type="identity")),
}

# Of the networks with classes.  Labels of "timestep" are any numbers.
LABELS = {
    "classes": [4, 0, 4, 2],
    "classes_grey": [1, 1, 1],
    "classes_single": [0, 0],
    "classes_three": [10, 3, 10],
    "classes_timestep": [5, 17, 5],
}


def save_flat(unet, folder, **options):
    """Network and DDPMScheduler(**options) in one folder, as the google/ddpm-* repositories lay them out."""
    unet.save_pretrained(folder)
    ddpm_scheduler(**options).save_pretrained(folder)


def class_inputs(name, options, random):
    """What the network is told of the classes: {"labels": i64 [n]}, {"vectors": float [n, 4 C0]} or nothing."""
    if options.get("class_embed_type") == "identity":
        shape = (len(UNETS[name][0]), 4 * options["block_out_channels"][0])
        return {"vectors": random.standard_normal(shape).astype(np.float32)}
    return {"labels": np.array(LABELS[name], np.int64)} if name in LABELS else {}


def write_unets(out):
    for number, (name, (steps, options)) in enumerate(UNETS.items()):
        folder = os.path.join(out, "unet_" + name)
        unet = oracle.random_unet(options, seed=100 + number)
        save_flat(unet, folder)
        random = np.random.RandomState(200 + number)
        size = options["sample_size"]
        h, w = size if isinstance(size, tuple) else (size, size)
        x = random.standard_normal((len(steps), h, w, options["in_channels"])).astype(np.float32)
        dout = random.standard_normal((len(steps), h, w, options["out_channels"])).astype(np.float32)
        t = np.array(steps, np.float32)
        given = class_inputs(name, options, random)
        result = oracle.unet_forward_backward(unet.double(), x, t, dout, given)
        about = "x, dout, out, dx: NHWC; grad.*: of sum(out * dout), torch's layout; computed in float64"
        tensors = {"x": x, "t": t, "dout": dout, **given, **as_float32(result)}
        save_tensors(os.path.join(folder, "io.safetensors"), tensors, about)


# ---- the tutorial's denoiser --------------------------------------------------------------------


class Simple(torch.nn.Module):
    """Three 3x3 convolutions, ReLU between them, no time."""

    def __init__(self, width=64):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, width, 3, padding=1)
        self.conv2 = torch.nn.Conv2d(width, width, 3, padding=1)
        self.conv3 = torch.nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x):
        return self.conv3(torch.relu(self.conv2(torch.relu(self.conv1(x)))))


def write_simple(out):
    folder = os.path.join(out, "simple")
    simple = oracle.randomise(Simple(), seed=300, gain=2.0)
    weights = {name: p.detach().numpy() for name, p in simple.named_parameters()}
    save_tensors(os.path.join(folder, WEIGHTS), weights, "Conv3x3(1, 64) ReLU Conv3x3(64, 64) ReLU Conv3x3(64, 1)")
    random = np.random.RandomState(301)
    x, dout = random.standard_normal((2, 3, 8, 8, 1)).astype(np.float32)
    simple.double()
    result = oracle.forward_backward(simple, simple, x, dout)
    about = "x, dout, out, dx: NHWC; grad.*: of sum(out * dout); computed in float64"
    save_tensors(os.path.join(folder, "io.safetensors"), {"x": x, "dout": dout, **as_float32(result)}, about)


# ---- noise and schedules ------------------------------------------------------------------------

SEED = 0x0123456789ABCDEF


def write_noise(out):
    """Words, draws and normals at small and at large seeds and ids."""
    tensors = {}
    for name, seed, ids in (("a", 0, [0, 1]), ("b", SEED, [7, (1 << 32) + 7]), ("c", (1 << 63) - 1, [(1 << 40) + 3])):
        shape = (3, 5, 3)  # 45 elements: the last quad is cut
        tensors[name + ".seed"] = np.array([seed], np.int64)
        tensors[name + ".ids"] = np.array(ids, np.int64)
        words = oracle.philox(oracle.counters(12, ids, None, oracle.NOISE_TRAIN_EPS), seed)
        tensors[name + ".words"] = words.astype(np.int64)
        tensors[name + ".train_eps"] = oracle.train_noise(shape, ids, seed)
        tensors[name + ".train_t"] = oracle.train_timesteps(ids, seed)
        tensors[name + ".train_t_run"] = oracle.train_timesteps(np.arange(256) + ids[0], seed)
        small = [i & 0xFFFFFFFF for i in ids]
        tensors[name + ".sample_init"] = oracle.normals(shape, small, seed, oracle.NOISE_SAMPLE_INIT, c2=0)
        tensors[name + ".sample_step_17"] = oracle.normals(shape, small, seed, oracle.NOISE_SAMPLE_STEP, c2=17)
    save_tensors(os.path.join(out, "noise.safetensors"), tensors, "seed, ids and what Philox4x32-10 makes of them")


def write_schedule(out):
    tensors = {}
    for name in ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"):
        plain = ddpm_scheduler(beta_schedule=name)
        tensors["betas." + name] = oracle.betas_exact(name)
        tensors["alphas_cumprod." + name] = oracle.abar_exact(name)
        tensors["diffusers.betas." + name] = plain.betas.numpy()
        tensors["diffusers.alphas_cumprod." + name] = plain.alphas_cumprod.numpy()
    for spacing in ("leading", "linspace", "trailing"):
        for n in (1, 7, 50, 250, 1000):
            scheduler = ddpm_scheduler(timestep_spacing=spacing)
            scheduler.set_timesteps(n)
            tensors[f"timesteps.{spacing}.{n}"] = scheduler.timesteps.numpy()
            if spacing != "linspace" and n in (50, 1000):
                write_variances(tensors, spacing, n)
    about = "T = 1000, beta 1e-4 to 0.02; float64 from the formulas, diffusers.* its own float32 tables"
    save_tensors(os.path.join(out, "schedule.safetensors"), tensors, about)


def write_variances(tensors, spacing, n):
    """The step variance at five of the n timesteps of the linear schedule, without the 1e-20 floor in double."""
    plain = ddpm_scheduler(timestep_spacing=spacing)
    plain.set_timesteps(n)
    steps = plain.timesteps.numpy()
    rows = np.array([0, 1, n // 2, n - 2, n - 1])
    previous = np.append(steps, -1)[rows + 1]
    bar = oracle.abar_exact()
    small = oracle.posterior_mean(bar, steps[rows], previous)[2]
    large = 1 - bar[steps[rows]] / np.where(previous >= 0, bar[previous], 1.0)
    prefix = f"variance.{spacing}.{n}."
    tensors[prefix + "t"], tensors[prefix + "previous"] = steps[rows], previous
    for kind, exact in (("fixed_small", small), ("fixed_large", large)):
        tensors[prefix + kind] = exact
        plain_values = [float(plain._get_variance(t, variance_type=kind)) for t in plain.timesteps[rows]]
        tensors["diffusers." + prefix + kind] = np.array(plain_values, np.float32)


# ---- training -----------------------------------------------------------------------------------

BATCH, IMAGES, WARMUP, LR, CLIP, EMA = 8, 20, 10, 1e-3, 1.0, 0.999
TRAINED = config(12, 1, (D, A), (AU, U), (6, 10), 1, 2, None, **PAPER)
# Image i has label 3 i mod 4, and the last of the five classes stands for no class.
CLASSES, LABEL_DROPOUT = 5, 0.25

# name: (prediction, steps, micro-batches a step, weight decay)
TRAJECTORIES = {
    "epsilon": ("epsilon", 100, 1, 0.0),
    "sample": ("sample", 20, 1, 0.01),
    "v_prediction": ("v_prediction", 20, 1, 0.0),
    "mu": ("mu", 20, 1, 0.0),
    "micro_batches": ("epsilon", 20, 4, 0.0),
    "classes": ("epsilon", 20, 1, 0.0),
}


def make_images():
    """u8 [20, 12, 12, 1]: a soft bright disc each, somewhere on a dark ground."""
    random = np.random.RandomState(400)
    y, x = np.mgrid[0:12, 0:12]
    images = []
    for _ in range(IMAGES):
        cy, cx, radius = random.uniform(3, 8, 2).tolist() + [random.uniform(1.5, 4)]
        images.append(255 / (1 + np.exp(2 * (np.hypot(y - cy, x - cx) - radius))))
    return np.round(np.stack(images)).astype(np.uint8)[..., None]


def make_batch(images, ordinals, prediction, dtype):
    """x_t, t, eps and the training target of samples `ordinals`: tensors [n, c, h, w], t int64 [n]."""
    exact = dtype == torch.float64
    x0 = nchw(images[ordinals % len(images)] / 127.5 - 1, dtype)
    eps = nchw(oracle.train_noise(images.shape[1:], ordinals, SEED), dtype)
    steps = oracle.train_timesteps(ordinals, SEED)
    t = torch.from_numpy(steps)
    scheduler = ddpm_scheduler(exact)
    x_t = scheduler.add_noise(x0, eps, t)
    if prediction == "epsilon":
        target = eps
    elif prediction == "sample":
        target = x0
    elif prediction == "v_prediction":
        target = scheduler.get_velocity(x0, eps, t)
    else:
        a, b, _ = oracle.posterior_mean(oracle.abar_exact(), steps, steps - 1)
        a, b = (torch.from_numpy(c).to(dtype).reshape(-1, 1, 1, 1) for c in (a, b))
        target = a * x0 + b * x_t
    return x_t, t, eps, target


def make_labels(unet, images, ordinals):
    """What samples `ordinals` are trained with, int64 [n]; None for a network without classes."""
    if unet.config.num_class_embeds is None:
        return None
    labels = ordinals % len(images) * 3 % (CLASSES - 1)
    return torch.from_numpy(oracle.train_labels(labels, ordinals, SEED, LABEL_DROPOUT, CLASSES - 1))


def train(unet, images, prediction, steps, micro_batches, weight_decay):
    """Trains `unet` in its own dtype.  Returns the record of the run and the EMA's parameters by name."""
    dtype = next(unet.parameters()).dtype
    optimizer = torch.optim.AdamW(unet.parameters(), LR, betas=(0.9, 0.999), eps=1e-8, weight_decay=weight_decay)
    schedule = get_scheduler("constant_with_warmup", optimizer, num_warmup_steps=WARMUP)
    ema = EMAModel(unet.parameters(), decay=EMA)
    record = {"losses": [], "grad_norms": [], "lr": [], "t": []}
    for step in range(steps):
        ordinals = np.arange(step * BATCH, (step + 1) * BATCH)
        x_t, t, eps, target = make_batch(images, ordinals, prediction, dtype)
        labels = make_labels(unet, images, ordinals)
        optimizer.zero_grad()
        loss_sum = 0.0
        for part in torch.arange(BATCH).chunk(micro_batches):
            out = unet(x_t[part], t[part], class_labels=None if labels is None else labels[part]).sample
            loss = torch.nn.functional.mse_loss(out, target[part]) / micro_batches
            loss.backward()
            loss_sum += loss.item()
        if step == 0 and micro_batches == 1:
            first = {"x_t": x_t, "eps": eps, "target": target, "out": out}
            record.update({"first." + name: nhwc(value) for name, value in first.items()})
        norm = torch.nn.utils.clip_grad_norm_(unet.parameters(), CLIP)
        record["lr"].append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
        ema.step(unet.parameters())
        record["losses"].append(loss_sum)
        record["grad_norms"].append(norm.item())
        record["t"].append(t.numpy())
        if labels is not None:
            record.setdefault("labels", []).append(labels.numpy())
    record = {name: np.stack(value) if isinstance(value, list) else value for name, value in record.items()}
    names = [name for name, _ in unet.named_parameters()]
    return record, dict(zip(names, ema.shadow_params))


def save_trained(parameters, folder, prediction):
    """`parameters` by name, rounded to float32."""
    classes = CLASSES if "class_embedding.weight" in parameters else None
    copy = UNet2DModel(**TRAINED, num_class_embeds=classes)
    copy.load_state_dict({name: p.detach().float() for name, p in parameters.items()})
    save_flat(copy, folder, prediction_type=prediction)


def write_trajectories(out):
    folder = os.path.join(out, "trajectory")
    images = make_images()
    save_tensors(os.path.join(folder, "images.safetensors"), {"images": images}, "u8 [n, h, w, c]")
    save_flat(oracle.random_unet(TRAINED, seed=401, gain=0.5), os.path.join(folder, "initial"))
    with_classes = {**TRAINED, "num_class_embeds": CLASSES}
    save_flat(oracle.random_unet(with_classes, seed=402, gain=0.5), os.path.join(folder, "initial_classes"))
    for name, (prediction, steps, micro_batches, weight_decay) in TRAJECTORIES.items():
        runs = []
        for exact in (True, False):
            unet = oracle.load_unet(os.path.join(folder, "initial_classes" if name == "classes" else "initial"), exact)
            runs.append((unet, *train(unet, images, prediction, steps, micro_batches, weight_decay)))
        (unet, record, ema), (unet_plain, record_plain, ema_plain) = runs
        tensors = {k: v.astype(np.float32) if k.startswith("first.") else v for k, v in record.items()}
        for key in ("losses", "grad_norms"):
            tensors["float32." + key] = record_plain[key]
        final = dict(unet.named_parameters())
        tensors["float32.weights_rel_l2"] = np.array([distance(dict(unet_plain.named_parameters()), final)])
        tensors["float32.ema_rel_l2"] = np.array([distance(ema_plain, ema)])
        for key, value in (("seed", SEED), ("batch", BATCH), ("micro_batches", micro_batches), ("warmup", WARMUP)):
            tensors["setup." + key] = np.array([value], np.int64)
        for key, value in (("lr", LR), ("clip", CLIP), ("ema_decay", EMA), ("weight_decay", weight_decay)):
            tensors["setup." + key] = np.array([value])
        if name == "micro_batches":
            parts = ("conv_in.weight", "mid_block.attentions.0.to_q.weight", "conv_out.weight")
            tensors.update({"final." + part: final[part].detach().float().numpy() for part in parts})
        else:
            save_trained(final, os.path.join(folder, name), prediction)
        if name == "epsilon":
            save_trained(ema, os.path.join(folder, "epsilon_ema"), prediction)
        about = f"{steps} steps of {prediction} prediction in float64; float32.*: the same in float32"
        save_tensors(os.path.join(folder, name, "io.safetensors"), tensors, about)


def distance(a, b):
    """rel_l2 of two sets of parameters, each seen as one vector."""
    flat = [np.concatenate([p[name].detach().numpy().ravel() for name in sorted(b)]) for p in (a, b)]
    return rel_l2(*flat)


# ---- sampling -----------------------------------------------------------------------------------

EPSILON, SAMPLE, V = ("trajectory/" + name for name in ("epsilon_ema", "sample", "v_prediction"))
MU = SAMPLE  # 1000 rounds of a network's own output: this one contracts, the one trained for mu is chaotic
LARGE, NO_CLIP = {"variance_type": "fixed_large"}, {"clip_sample": False}
# name: (network, steps, DDPMScheduler options)
SAMPLINGS = {
    "epsilon_small": (EPSILON, 1000, {}),
    "epsilon_large": (EPSILON, 1000, LARGE),
    "epsilon_no_clip": (EPSILON, 1000, NO_CLIP),
    "epsilon_leading_50": (EPSILON, 50, LARGE),
    "epsilon_linspace_50": (EPSILON, 50, {"timestep_spacing": "linspace"}),
    "epsilon_trailing_50": (EPSILON, 50, {"timestep_spacing": "trailing", **LARGE}),
    "sample": (SAMPLE, 1000, {"prediction_type": "sample"}),
    "v_prediction": (V, 1000, {"prediction_type": "v_prediction"}),
    "v_prediction_cosine_50": (V, 50, {"prediction_type": "v_prediction", "beta_schedule": "squaredcos_cap_v2"}),
    "mu": (MU, 1000, {"prediction_type": "mu", **NO_CLIP}),
    "mu_clip": (MU, 1000, {"prediction_type": "mu"}),
}
SAMPLE_IDS = np.array([0, 5, 4000000000], np.int64)
SAMPLE_SHAPE = (12, 12, 1)
AFTER_ROW = 10


def step_noise(row, dtype):
    return nchw(oracle.normals(SAMPLE_SHAPE, SAMPLE_IDS, SEED, oracle.NOISE_SAMPLE_STEP, c2=row), dtype)


def first_noise(dtype):
    return nchw(oracle.normals(SAMPLE_SHAPE, SAMPLE_IDS, SEED, oracle.NOISE_SAMPLE_INIT, c2=0), dtype)


def sample_diffusers(unet, steps, options):
    """DDPMScheduler's own loop, its random tensors replaced by ours.  x NCHW after row 10 and at the end."""
    dtype = next(unet.parameters()).dtype
    scheduler = ddpm_scheduler(dtype == torch.float64, **options)
    scheduler.set_timesteps(steps)
    x = first_noise(dtype)
    original = scheduling_ddpm.randn_tensor
    try:
        for row, t in enumerate(scheduler.timesteps):
            scheduling_ddpm.randn_tensor = lambda *_, **__: step_noise(row, dtype)
            x = scheduler.step(unet(x, t).sample, t, x).prev_sample
            if row == AFTER_ROW:
                middle = x
    finally:
        scheduling_ddpm.randn_tensor = original
    return middle, x


def sample_mu(unet, steps, options):
    """Algorithm 2 of the paper, every timestep, for a network that predicts the mean of q(x_{t-1} | x_t, x_0).
    x_0 = (mu - b x_t) / a by eq. 7 is needed only to clip it."""
    assert steps == T
    dtype = next(unet.parameters()).dtype
    t = np.arange(T)[::-1]
    a, b, variance = oracle.posterior_mean(oracle.abar_exact(), t, t - 1)
    x = first_noise(dtype)
    for row in range(T):
        mean = unet(x, int(t[row])).sample
        if options.get("clip_sample", True):
            x0 = (mean - b[row] * x) / a[row]
            mean = a[row] * x0.clamp(-1, 1) + b[row] * x
        x = mean + variance[row] ** 0.5 * step_noise(row, dtype)  # the last variance is 0
        if row == AFTER_ROW:
            middle = x
    return middle, x


@torch.no_grad()
def write_samplings(out):
    for name, (network, steps, options) in SAMPLINGS.items():
        folder = os.path.join(out, "sampling", name)
        tensors = {"ids": SAMPLE_IDS, "seed": np.array([SEED], np.int64), "steps": np.array([steps], np.int64)}
        loop = sample_mu if options.get("prediction_type") == "mu" else sample_diffusers
        for exact, prefix in ((True, ""), (False, "float32.")):
            unet = oracle.load_unet(os.path.join(out, network), exact)
            middle, final = loop(unet, steps, options)
            assert torch.isfinite(final).all()
            tensors[prefix + "after_row_10"], tensors[prefix + "x"] = nhwc(middle), nhwc(final)
        tensors = {k: v if v.dtype == np.int64 else v.astype(np.float32) for k, v in tensors.items()}
        about = f"{steps} steps with {network}; x in float64, float32.x as diffusers runs it"
        save_tensors(os.path.join(folder, "io.safetensors"), tensors, about)
        ddpm_scheduler(**options).save_pretrained(folder)


# ---- pipelines ----------------------------------------------------------------------------------

TINY = config(4, 1, (A,), (AU,), (4,), 1, 2, None, **PAPER)
LEGACY_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def write_pipelines(out):
    """One network in every shape in which a diffusers checkpoint comes."""
    folder = os.path.join(out, "pipeline")
    unet = oracle.random_unet(TINY, seed=500)
    DDPMPipeline(unet, ddpm_scheduler(**LARGE)).save_pretrained(os.path.join(folder, "current"))
    legacy = os.path.join(folder, "legacy")
    save_flat(unet, legacy, **LARGE)
    shutil.copy(os.path.join(folder, "current", "model_index.json"), legacy)
    state = {name: p.detach().numpy() for name, p in unet.named_parameters()}
    for new, old in LEGACY_NAMES.items():
        state = {name.replace(f".{new}.", f".{old}."): p for name, p in state.items()}
    save_tensors(os.path.join(legacy, WEIGHTS), state, "attention named as diffusers named it before 0.15")
    random = np.random.RandomState(501)
    x, t = random.standard_normal((2, 4, 4, 1)).astype(np.float32), np.array([0, 999], np.float32)
    tensors = {"x": x, "t": t}
    for name, dtype in (("current", torch.float32), ("half", torch.float16), ("bfloat", torch.bfloat16)):
        rounded = oracle.random_unet(TINY, seed=500).to(dtype)
        if name != "current":
            save_flat(rounded, os.path.join(folder, name), **LARGE)
        with torch.no_grad():
            tensors["out." + name] = nhwc(rounded.double()(nchw(x, torch.float64), torch.from_numpy(t)).sample)
    save_tensors(os.path.join(folder, "io.safetensors"), as_float32(tensors), "legacy gives out.current")


def write_mnist(out):
    """The losses of 100 steps on the first MNIST images, from trajectory/initial.  The images stay where they
    are: without $DDPM_DATA/mnist the stored losses are kept."""
    source = os.path.join(os.environ.get("DDPM_DATA", ""), "mnist", "train-images-idx3-ubyte.gz")
    target = os.path.join(out, "mnist", "io.safetensors")
    if not os.path.exists(source):
        print("DDPM_DATA is not set or holds no mnist: the fixture mnist is kept as it is")
        os.makedirs(os.path.dirname(target))
        shutil.copyfile(os.path.join(GOLDEN, "mnist", "io.safetensors"), target)
        return
    with gzip.open(source) as f:
        pixels = np.frombuffer(f.read(16 + 800 * 784), np.uint8)[16:]
    unet = oracle.load_unet(os.path.join(out, "trajectory", "initial"), True)
    record, _ = train(unet, pixels.reshape(800, 28, 28, 1), "epsilon", 100, 1, 0.0)
    tensors = {name: record[name] for name in ("losses", "grad_norms")}
    save_tensors(target, tensors, "100 steps of 8 images in float64; the run is otherwise trajectory/epsilon")


# ---- the whole ----------------------------------------------------------------------------------


def generate(out):
    oracle.check_philox()
    write_noise(out)
    write_schedule(out)
    write_unets(out)
    write_simple(out)
    write_pipelines(out)
    write_trajectories(out)
    write_mnist(out)
    write_samplings(out)
    oracle.save_json(os.path.join(out, "VERSIONS.json"), oracle.versions())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default=GOLDEN, help="folder to write (default: tests/golden)")
    parser.add_argument("--verify", action="store_true", help="write nothing; compare with --out")
    parser.add_argument("--check", metavar="BUILD", help="compare libddpm of this build folder with PyTorch")
    parser.add_argument("--checkpoint", metavar="DIR", action="append", default=[], help="with --check: its output")
    arguments = parser.parse_args()
    oracle.be_deterministic()
    if arguments.check:
        import check_live

        return check_live.run(arguments.check, arguments.checkpoint)
    if arguments.verify:
        import check_golden

        with tempfile.TemporaryDirectory() as fresh:
            generate(fresh)
            return check_golden.run(arguments.out, fresh)
    with tempfile.TemporaryDirectory() as scratch:
        fresh = os.path.join(scratch, "golden")  # the temporary folder itself is private, and the copy would be
        generate(fresh)
        shutil.copytree(fresh, arguments.out, copy_function=shutil.copyfile, dirs_exist_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
