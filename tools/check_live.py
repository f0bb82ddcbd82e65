"""check_live.py - gen_golden.py --check BUILD: libddpm against PyTorch on networks nobody has seen.

Random valid UNet2DModel configurations are written as diffusers pipelines, loaded by
ddpm_model_load() and their predictions compared; pipelines that ddpm wrote (--checkpoint) are
loaded by diffusers and compared the same way.
"""

import ctypes
import glob
import os
import tempfile

import numpy as np
import torch
from diffusers import DDPMPipeline, DDPMScheduler

import oracle

CONFIGS, CLASS_CONFIGS = 40, 20
LIMIT = 2e-5  # rel_l2 of a float32 prediction against float64; PyTorch's own is about 1e-6

FLOATS, INTS = ctypes.POINTER(ctypes.c_float), ctypes.POINTER(ctypes.c_int)


class Library:
    """The few calls of include/ddpm.h that a prediction needs."""

    def __init__(self, build):
        paths = sorted(glob.glob(os.path.join(build, "**", "libddpm.so*"), recursive=True))
        if not paths:
            raise SystemExit(f"{build}: no libddpm.so; build the project first")
        self.lib = ctypes.CDLL(os.path.abspath(paths[0]))
        self.lib.ddpm_ctx_create.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_char_p]
        self.lib.ddpm_model_load.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_void_p)]
        self.lib.ddpm_model_predict_labels.argtypes = [ctypes.c_void_p, ctypes.c_int, FLOATS, FLOATS, INTS, FLOATS]
        self.lib.ddpm_last_error.argtypes = [ctypes.c_void_p]
        self.lib.ddpm_last_error.restype = ctypes.c_char_p
        self.lib.ddpm_model_destroy.argtypes = self.lib.ddpm_ctx_destroy.argtypes = [ctypes.c_void_p]
        self.lib.ddpm_model_destroy.restype = self.lib.ddpm_ctx_destroy.restype = None
        self.ctx = ctypes.c_void_p()
        self.must(self.lib.ddpm_ctx_create(ctypes.byref(self.ctx), b"cpu"))

    def must(self, status):
        if status:
            message = self.lib.ddpm_last_error(self.ctx) if self.ctx else b"no context"
            raise RuntimeError(f"status {status}: {message.decode()}")

    def predict(self, folder, x, t, labels, out_channels):
        """What the pipeline in `folder` makes of x [n, h, w, c], t [n] and int32 labels [n] or None: float32
        [n, h, w, out_channels]."""
        model = ctypes.c_void_p()
        self.must(self.lib.ddpm_model_load(self.ctx, folder.encode(), ctypes.byref(model)))
        try:
            out = np.full((*x.shape[:3], out_channels), np.nan, np.float32)
            x, t, to = (a.ctypes.data_as(FLOATS) for a in (x, t, out))
            labels = None if labels is None else labels.ctypes.data_as(INTS)
            self.must(self.lib.ddpm_model_predict_labels(model, len(out), x, t, labels, to))
            return out
        finally:
            self.lib.ddpm_model_destroy(model)

    def close(self):
        self.lib.ddpm_ctx_destroy(self.ctx)


def random_config(random):
    """A small valid configuration; every option that ddpm.c reads may take any of its values."""
    levels = random.randint(1, 5)
    groups = int(random.randint(2, 5))
    # At least two channels a group and four pixels a level: less, and the norms make noise of rounding.
    widths = tuple(groups * int(random.randint(2, 6)) for _ in range(levels))
    attention = random.randint(0, 2, (2, levels))
    divisors = [d for d in range(1, 25) if all(w % d == 0 for w in widths)]
    height, width = random.randint(2, 4, 2) << (levels - 1)
    shift = random.choice(["default", "scale_shift"])
    channels = int(random.randint(1, 5))
    return {
        "sample_size": (int(height), int(width)),
        "in_channels": channels,
        "out_channels": channels,
        "center_input_sample": bool(random.randint(2)),
        "freq_shift": int(random.randint(2)),
        "flip_sin_to_cos": bool(random.randint(2)),
        "down_block_types": tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attention[0]),
        "up_block_types": tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in attention[1]),
        "mid_block_type": "UNetMidBlock2D" if random.randint(4) else None,
        "block_out_channels": widths,
        "layers_per_block": int(random.randint(1, 4)),
        "downsample_padding": int(random.randint(2)),
        "attention_head_dim": int(random.choice(divisors)) if random.randint(3) else None,
        "norm_num_groups": groups,
        "attn_norm_num_groups": groups if random.randint(2) else None,
        "norm_eps": float(random.choice([1e-6, 1e-5, 1e-3])),
        "resnet_time_scale_shift": str(shift),
        "add_attention": bool(random.randint(4)),
    }


def random_class_config(random):
    """The same with classes; labels of "timestep" are bounded by num_class_embeds only if it is there."""
    kind = "timestep" if random.randint(4) == 0 else None
    number = None if kind and random.randint(2) else int(random.randint(1, 12))
    return {**random_config(random), "class_embed_type": kind, "num_class_embeds": number}


def random_labels(unet, n, random):
    """int32 [n], equal ones among them; None for a network without classes."""
    if unet.class_embedding is None:
        return None
    return random.randint(0, unet.config.num_class_embeds or 1000, n).astype(np.int32)


def random_input(unet, random):
    h, w = unet.config.sample_size if hasattr(unet.config.sample_size, "__len__") else [unet.config.sample_size] * 2
    n = int(random.randint(1, 5))
    x = random.standard_normal((n, h, w, unet.config.in_channels)).astype(np.float32)
    return x, random.randint(0, oracle.T, n).astype(np.float32)


@torch.no_grad()
def compare(library, folder, random):
    """rel_l2 of ddpm's prediction with the pipeline in `folder` against diffusers' in float64."""
    unet = DDPMPipeline.from_pretrained(folder, local_files_only=True).unet.double().eval()
    x, t = random_input(unet, random)
    labels = random_labels(unet, len(x), random)
    oracle.convert_class_timesteps(unet)
    given = None if labels is None else torch.from_numpy(labels.astype(np.int64))
    expected = unet(oracle.nchw(x, torch.float64), torch.from_numpy(t), class_labels=given).sample
    return oracle.rel_l2(library.predict(folder, x, t, labels, unet.config.out_channels), oracle.nhwc(expected))


def run(build, checkpoints):
    """Prints one line a network; 0 when every prediction agrees."""
    library, random, bad = Library(build), np.random.RandomState(600), 0
    with tempfile.TemporaryDirectory() as scratch:
        cases = [(folder, None) for folder in checkpoints]
        for i in range(CONFIGS + CLASS_CONFIGS):
            options = random_config(random) if i < CONFIGS else random_class_config(random)
            folder = os.path.join(scratch, str(i))
            DDPMPipeline(oracle.random_unet(options, seed=700 + i), DDPMScheduler()).save_pretrained(folder)
            cases.append((folder, options))
        for folder, options in cases:
            try:
                error = compare(library, folder, random)
                text = f"differs by {error:.2g}"
            except RuntimeError as failure:
                error, text = np.inf, str(failure)
            fine = error < LIMIT  # a NaN is not
            bad += not fine
            print("ok  " if fine else "BAD ", folder if options is None else options, text)
    library.close()
    print(f"{len(cases) - bad} of {len(cases)} agree")
    return 1 if bad else 0
