"""Write tests/io/fixtures with diffusers, torch, safetensors and json: what the readers and writers are held to.

  mix.safetensors   every dtype, an empty and a scalar tensor, a name that needs escapes
  pipeline/         DDPMPipeline.save_pretrained(); value i (of PyTorch's order) of the k-th name is (7 k + i) % 2048
  tensors.txt       the names and shapes of its net, as PyTorch lists them
  first/            the same net as the first releases kept it: flat, old names, 1x1 filters, half precision
  configs/          UNet2DModel and scheduler configs, as diffusers writes them
  reals.txt         doubles, as C hexadecimal and as Python prints them

python tests/io/make_io_fixtures.py"""

import inspect
import json
import pathlib
import random
import shutil
import struct

import torch
import diffusers
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from diffusers.schedulers.deprecated.scheduling_sde_vp import ScoreSdeVpScheduler
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).parent / "fixtures"
NET = dict(
    sample_size=(4, 6), in_channels=1, out_channels=1, block_out_channels=(4, 6), layers_per_block=1,
    down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    norm_num_groups=2, attention_head_dim=3, downsample_padding=0, freq_shift=1, flip_sin_to_cos=False,
    norm_eps=1e-6, dropout=0.1,
)
CONFIGS = {
    "unet_defaults": {},
    "unet_tiny": NET,
    "unet_cifar": dict(
        sample_size=32, block_out_channels=(128, 256, 256, 256), attention_head_dim=None, downsample_padding=0,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"), flip_sin_to_cos=False, freq_shift=1,
        norm_eps=1e-6, dropout=0.1),
    "unet_odd": dict(
        sample_size=28, in_channels=1, out_channels=2, block_out_channels=(12,), down_block_types=("DownBlock2D",),
        up_block_types=("AttnUpBlock2D",), norm_num_groups=3, attention_head_dim=4, resnet_time_scale_shift="scale_shift",
        add_attention=False, center_input_sample=True, num_train_timesteps=1000, attn_norm_num_groups=6,
        layers_per_block=3, norm_eps=1.25e-5, dropout=0.3),
    "unet_no_mid": dict(
        block_out_channels=(8, 8), down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
        norm_num_groups=8, mid_block_type=None),
    "scheduler_defaults": {},
    "scheduler_cosine": dict(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction",
                             timestep_spacing="trailing", variance_type="fixed_large", num_train_timesteps=4000),
    "scheduler_other": dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False,
                            clip_sample_range=2.5, prediction_type="sample", steps_offset=1, timestep_spacing="linspace"),
    "scheduler_sigmoid": dict(beta_schedule="sigmoid", beta_start=1e-7, beta_end=2e-3),
    "unet_classes": dict(NET, num_class_embeds=11),
    "unet_timestep": dict(NET, num_class_embeds=11, class_embed_type="timestep"),
    "unet_identity": dict(NET, class_embed_type="identity"),
}
# Every supported class with its defaults, and with as many other values as it has.
CLASSES = ["DDPM", "DDIM", "DDIMInverse", "EulerDiscrete", "EulerAncestralDiscrete", "HeunDiscrete", "KDPM2Discrete",
           "KDPM2AncestralDiscrete", "LMSDiscrete", "PNDM", "DEISMultistep", "DPMSolverMultistep", "DPMSolverSinglestep",
           "UniPCMultistep", "SASolver", "EDMEuler", "EDMDPMSolverMultistep", "FlowMatchEulerDiscrete",
           "CMStochasticIterative", "LCM", "TCD", "ScoreSdeVp", "ScoreSdeVe"]
OWN = {"ScoreSdeVp": dict(preconditioning="vp", epsilon_t=1e-5, beta_max=20.0),  # keys of ours, which diffusers keeps
       "ScoreSdeVe": dict(preconditioning="ve")}
OTHER = dict(
    num_train_timesteps=7, trained_betas=[0.01, 0.02, 0.03, 0.5, 0.25, 0.125, 0.0078125], rescale_betas_zero_snr=True,
    prediction_type="v_prediction", variance_type="learned_range", clip_sample=True, clip_sample_range=1.5,
    thresholding=True, dynamic_thresholding_ratio=0.75, sample_max_value=2.5, timestep_spacing="trailing", steps_offset=1,
    set_alpha_to_one=True, skip_prk_steps=True, solver_order=3, predictor_order=3, corrector_order=1,
    lower_order_final=True, euler_at_final=True, use_exponential_sigmas=True, final_sigmas_type="sigma_min",
    lambda_min_clipped=-5.1, predict_x0=False, disable_corrector=[0, 1, 5], use_flow_sigmas=False, flow_shift=3.0, shift=2.0,
    stochastic_sampling=True, sigma_min=0.01, sigma_max=40.0, sigma_data=0.75, rho=5.0, s_noise=1.25, clip_denoised=False,
    sigma_schedule="exponential", original_inference_steps=5, timestep_scaling=8.0, beta_min=0.25, beta_max=12.5,
    sampling_eps=0.002)


def mix():
    values = {
        "b": torch.arange(3.0), "a": torch.arange(-1, 3), "f64": torch.tensor([0.1, -2.0], dtype=torch.float64),
        "i32": torch.tensor([-5, 7], dtype=torch.int32), "h": torch.tensor([1.5, -0.0, 65504.0], dtype=torch.float16),
        "bf": torch.tensor([1.5, -3.0, 1e30], dtype=torch.bfloat16), "u8": torch.tensor([0, 128, 255], dtype=torch.uint8),
        "yes": torch.tensor([True]), "empty": torch.zeros(0, 4), "scalar": torch.tensor(3.5),
        'q"\\\n\t\b\x01\x1f\x7f/é': torch.ones(1, 1),
    }
    save_file(values, OUT / "mix.safetensors", metadata={"format": "pt"})


def first_releases(state):
    """Old names, old shapes, half precision, one flat folder, old class names and keys."""
    renamed = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    old = {}
    for name, value in state.items():
        for new, first in renamed.items():
            if f".{new}." in name:
                name = name.replace(f".{new}.", f".{first}.")
                if value.ndim == 2:
                    value = value[:, :, None, None]
        old[name] = value.half().contiguous()
    folder = OUT / "first"
    folder.mkdir()
    save_file(old, folder / "diffusion_pytorch_model.fp16.safetensors", metadata={"format": "pt"})
    config = {k: v for k, v in NET.items() if k not in ("dropout", "sample_size")}
    config |= {"_class_name": "UNetModel", "_diffusers_version": "0.0.4", "act_fn": "silu", "sample_size": [4, 6]}
    config["down_block_types"] = ["UNetRes" + t for t in NET["down_block_types"]]
    config["up_block_types"] = ["UNetRes" + t for t in NET["up_block_types"]]
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    scheduler = {"_class_name": "GaussianDDPMScheduler", "_diffusers_version": "0.0.4", "timesteps": 300,
                 "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear", "variance_type": "fixed_large",
                 "clip_predicted_image": False, "tensor_format": "pt"}
    (folder / "scheduler_config.json").write_text(json.dumps(scheduler, indent=2, sort_keys=True) + "\n")


def pipeline():
    net = UNet2DModel(**NET)
    state = net.state_dict()
    for k, name in enumerate(sorted(state)):
        state[name].copy_(((torch.arange(state[name].numel()) + 7 * k) % 2048).view(state[name].shape))
    DDPMPipeline(net, DDPMScheduler(variance_type="fixed_large")).save_pretrained(OUT / "pipeline")
    lines = [f"{name} {' '.join(map(str, value.shape))}\n" for name, value in state.items()]
    (OUT / "tensors.txt").write_text("".join(lines))
    first_releases(state)


def configs():
    for name, values in CONFIGS.items():
        kind = UNet2DModel if name.startswith("unet") else DDPMScheduler
        (OUT / "configs").mkdir(exist_ok=True)
        (OUT / "configs" / f"{name}.json").write_text(kind(**values).to_json_string())
    (OUT / "schedulers").mkdir(exist_ok=True)
    for name in CLASSES:
        kind = getattr(diffusers, name + "Scheduler", ScoreSdeVpScheduler)  # the deprecated one is not exported
        keys = inspect.signature(kind.__init__).parameters
        other = {k: v for k, v in OTHER.items() if k in keys}
        if name in ("EulerDiscrete", "UniPCMultistep"):
            del other["sigma_min"], other["sigma_max"]
        if name in ("DPMSolverMultistep", "DPMSolverSinglestep", "SASolver"):
            del other["variance_type"]
        (OUT / "schedulers" / f"{name}.json").write_text(made(kind, OWN.get(name, {})))
        (OUT / "schedulers" / f"{name}.other.json").write_text(made(kind, OWN.get(name, {}) | other))


def made(kind, values):
    return (kind.from_config(values) if "preconditioning" in values else kind(**values)).to_json_string()


def reals():
    rng = random.Random(1)
    values = [0.0, -0.0, 1.0, -1.0, 0.1, 1e-4, 1e-5, 9.999e-5, 1e15, 1e16, 123456789012345678.0, 5e-324, 1.7976931348623157e308,
              2.0**53, 2.0**53 + 2, 0.995, 0.02, 1e22, 1e23, 100.0, 1234.5, 9007199254740993.0, 999999999999999.9, 9999999999999998.0]
    while len(values) < 300:
        v = struct.unpack("<d", rng.randbytes(8))[0]
        if abs(v) < float("inf"):
            values.append(v)
        values.append(round(rng.uniform(-1, 1) * 10 ** rng.randint(-8, 18), rng.randint(0, 12)))
    (OUT / "reals.txt").write_text("".join(f"{v.hex()} {v!r}\n" for v in values))


shutil.rmtree(OUT, ignore_errors=True)
OUT.mkdir()
mix()
pipeline()
configs()
reals()
