"""settings.py - the options of a network, from configs/<name>.yaml or a pipeline folder; needs no PyTorch."""

import json
import os

DEFAULTS = {
    "in_channels": 3,
    "out_channels": 3,
    "sample_size": 32,
    "block_out_channels": [128, 256, 256, 256],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 2,
    "attention_head_dim": None,
    "norm_num_groups": 32,
    "norm_eps": 1e-6,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "dropout": 0.0,
    "add_attention": True,
    "center_input_sample": False,
    "mid_block_type": "UNetMidBlock2D",
    "resnet_time_scale_shift": "default",
}


def read_yaml(path):
    """{"section.key": value}: the plain subset that configs/*.yaml are written in."""
    found, section = {}, ""
    with open(path) as f:
        for line in f:
            line = line.split(" #")[0].rstrip()
            if not line or line.lstrip().startswith("#"):
                continue
            key, _, value = line.partition(":")
            if not line.startswith(" "):
                section = key
            name = key.strip() if not line.startswith(" ") else f"{section}.{key.strip()}"
            value = value.strip()
            if value:
                found[name] = scalar(value)
    return found


def scalar(text):
    if text.startswith("["):
        return [scalar(part.strip()) for part in text.strip("[]").split(",")]
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text.strip("\"'")


def options_of_yaml(path):
    """(options of the network, all settings of the file)"""
    settings, o = read_yaml(path), dict(DEFAULTS)
    o.update({k[6:]: v for k, v in settings.items() if k.startswith("model.") and k[6:] in o})
    o["attention_head_dim"] = o["attention_head_dim"] or None
    o["sample_size"] = settings.get("data.resolution") or 32
    o["in_channels"] = o["out_channels"] = settings.get("data.channels") or 3
    return o, settings


def batch_of_yaml(path, mode):
    """Images of a batch as our program takes them, unless told otherwise."""
    found = read_yaml(path)
    return found.get("train.batch", 128) if mode == "train" else found.get("sample.batch", 64)


def options_of_pipeline(folder):
    with open(os.path.join(folder, "unet", "config.json")) as f:
        config = json.load(f)
    return {k: config.get(k, v) for k, v in DEFAULTS.items()}
