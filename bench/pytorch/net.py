"""net.py - the U-Net of Ho, Jain & Abbeel 2020 as PyTorch is best at it: the rival.

The same network as diffusers' UNet2DModel with the same options, and a state dict that is the same but
for the queries, keys and values, which are one layer here (load_diffusers() joins them).  Written to be
easy on torch.compile: fused q, k, v; scaled_dot_product_attention; no views of channels; nothing that
depends on data.
"""

import math
import os

import torch
import torch.nn.functional as F
from torch import nn

WEIGHTS = "diffusion_pytorch_model.safetensors"


class Resnet(nn.Module):
    def __init__(self, cin, cout, temb, o):
        super().__init__()
        self.norm1 = nn.GroupNorm(o["norm_num_groups"], cin, eps=o["norm_eps"])
        self.conv1 = nn.Conv2d(cin, cout, 3, padding=1)
        self.time_emb_proj = nn.Linear(temb, cout)
        self.norm2 = nn.GroupNorm(o["norm_num_groups"], cout, eps=o["norm_eps"])
        self.dropout = nn.Dropout(o["dropout"])
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(cin, cout, 1) if cin != cout else None

    def forward(self, x, temb):
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time_emb_proj(temb)[:, :, None, None]
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Attention(nn.Module):
    def __init__(self, c, o):
        super().__init__()
        self.heads = c // o["attention_head_dim"] if o["attention_head_dim"] else 1
        self.group_norm = nn.GroupNorm(o["norm_num_groups"], c, eps=o["norm_eps"])
        self.to_qkv = nn.Linear(c, 3 * c)
        self.to_out = nn.ModuleList([nn.Linear(c, c)])

    def forward(self, x):
        n, c, h, w = x.shape
        qkv = self.to_qkv(self.group_norm(x).permute(0, 2, 3, 1).reshape(n, h * w, c))
        q, k, v = qkv.reshape(n, h * w, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v)
        y = self.to_out[0](y.transpose(1, 2).reshape(n, h * w, c))
        return x + y.reshape(n, h, w, c).permute(0, 3, 1, 2)


class Downsample(nn.Module):
    def __init__(self, c, padding):
        super().__init__()
        self.padding = padding
        self.conv = nn.Conv2d(c, c, 3, stride=2, padding=padding)

    def forward(self, x):
        return self.conv(x if self.padding else F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Block(nn.Module):
    """A level on the way down (skips=None) or up (skips: the channels of each layer's skip)."""

    def __init__(self, cin, cout, temb, o, attention, skips=None, resample=None):
        super().__init__()
        widths = [cin] + [cout] * (o["layers_per_block"] - (skips is None))
        extra = skips or [0] * len(widths)
        self.resnets = nn.ModuleList(Resnet(w + s, cout, temb, o) for w, s in zip(widths, extra))
        self.attentions = nn.ModuleList(Attention(cout, o) for _ in widths) if attention else [None] * len(widths)
        if resample is not None:
            setattr(self, "upsamplers" if skips else "downsamplers", nn.ModuleList([resample]))
        self.resample = resample is not None

    def layers(self):
        return zip(self.resnets, self.attentions)


class Middle(nn.Module):
    def __init__(self, c, temb, o):
        super().__init__()
        self.resnets = nn.ModuleList(Resnet(c, c, temb, o) for _ in range(2))
        self.attentions = nn.ModuleList([Attention(c, o)]) if o["add_attention"] else []

    def forward(self, x, temb):
        x = self.resnets[0](x, temb)
        for a in self.attentions:
            x = a(x)
        return self.resnets[1](x, temb)


class TimeEmbedding(nn.Module):
    def __init__(self, dim, temb, o):
        super().__init__()
        half = dim // 2
        exponent = -math.log(10000) * torch.arange(half, dtype=torch.float32) / (half - o["freq_shift"])
        self.register_buffer("freq", torch.exp(exponent), persistent=False)
        self.cosines_first = o["flip_sin_to_cos"]
        self.linear_1 = nn.Linear(dim, temb)
        self.linear_2 = nn.Linear(temb, temb)

    def forward(self, t):
        angle = t.float()[:, None] * self.freq.float()
        parts = (angle.cos(), angle.sin()) if self.cosines_first else (angle.sin(), angle.cos())
        y = torch.cat(parts, 1).to(self.linear_1.weight.dtype)
        return self.linear_2(F.silu(self.linear_1(y)))


class Net(nn.Module):
    def __init__(self, o):
        super().__init__()
        widths, levels = o["block_out_channels"], len(o["block_out_channels"])
        temb = 4 * widths[0]
        self.centre = o["center_input_sample"]
        self.conv_in = nn.Conv2d(o["in_channels"], widths[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(widths[0], temb, o)
        self.down_blocks, self.up_blocks, skips, c = nn.ModuleList(), nn.ModuleList(), [widths[0]], widths[0]
        for i, w in enumerate(widths):
            last = i == levels - 1
            down = None if last else Downsample(w, o["downsample_padding"])
            self.down_blocks.append(Block(c, w, temb, o, o["down_block_types"][i].startswith("Attn"), None, down))
            skips += [w] * (o["layers_per_block"] + (not last))
            c = w
        self.mid_block = Middle(c, temb, o) if o["mid_block_type"] else None
        for i, w in enumerate(reversed(widths)):
            taken = [skips.pop() for _ in range(o["layers_per_block"] + 1)]
            up = None if i == levels - 1 else Upsample(w)
            self.up_blocks.append(Block(c, w, temb, o, o["up_block_types"][i].startswith("Attn"), taken, up))
            c = w
        self.conv_norm_out = nn.GroupNorm(o["norm_num_groups"], c, eps=o["norm_eps"])
        self.conv_out = nn.Conv2d(c, o["out_channels"], 3, padding=1)

    def forward(self, x, t):
        temb = F.silu(self.time_embedding(t))  # every layer takes its SiLU
        h = self.conv_in(2 * x - 1 if self.centre else x)
        skips = [h]
        for block in self.down_blocks:
            for resnet, attention in block.layers():
                h = resnet(h, temb)
                h = h if attention is None else attention(h)
                skips.append(h)
            if block.resample:
                h = block.downsamplers[0](h)
                skips.append(h)
        if self.mid_block is not None:
            h = self.mid_block(h, temb)
        for block in self.up_blocks:
            for resnet, attention in block.layers():
                h = resnet(torch.cat((h, skips.pop()), 1), temb)
                h = h if attention is None else attention(h)
            if block.resample:
                h = block.upsamplers[0](h)
        return self.conv_out(F.silu(self.conv_norm_out(h)))

    def load_diffusers(self, state):
        """The weights of a UNet2DModel, by its names."""
        state = dict(state)
        for name in [n for n in state if ".to_q." in n]:
            parts = [state.pop(name.replace(".to_q.", f".to_{x}.")) for x in "qkv"]
            state[name.replace(".to_q.", ".to_qkv.")] = torch.cat(parts)
        self.load_state_dict(state)
        return self


# ---- networks, weights --------------------------------------------------------------------------

NETS = ("clean", "diffusers")


def pipeline_state(folder):
    from safetensors.torch import load_file

    return load_file(os.path.join(folder, "unet", WEIGHTS))


class Diffusers(nn.Module):
    """diffusers' own network behind the same call."""

    def __init__(self, o):
        super().__init__()
        from diffusers import UNet2DModel

        given = {k: tuple(v) if isinstance(v, list) else v for k, v in o.items()}
        self.unet = UNet2DModel(**given)

    def forward(self, x, t):
        return self.unet(x, t, return_dict=False)[0]

    def load_diffusers(self, state):
        self.unet.load_state_dict(state)
        return self


def create(kind, o):
    if o["resnet_time_scale_shift"] != "default":
        raise SystemExit("net.py: resnet_time_scale_shift is not supported here")
    return (Diffusers if kind == "diffusers" else Net)(o)


def parameters(net):
    return sum(p.numel() for p in net.parameters())
