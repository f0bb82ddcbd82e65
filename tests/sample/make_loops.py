"""Write tests/sample/loops: whole sampling loops of diffusers 0.42.1 with small UNet2DModels, in double.

  classes/           a random UNet2DModel with 5 classes and a DDPMScheduler, as a pipeline folder of the flat layout
  cases.txt          a case a line: name, network, class name, steps, options of the generator, the scheduler's config
  images.safetensors the result of each case, [3, h, w, c]; and the images that editing starts from

    oracle/bin/python tests/sample/make_loops.py      (see tools/gen_golden.py for the packages)

The random tensors are ours (tools/oracle.py).  diffusers rounds to float32 in many places; here its modules see float64.
Guidance is Ho & Salimans 2022, eq. 6; its rescaling is Lin et al. 2023, eq. 15 and 16."""

import json
import os
import pathlib
import sys

import numpy as np
import torch

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "tools"))
import diffusers  # noqa: E402
import oracle  # noqa: E402
from gen_golden import A, AU, D, GOLDEN, PAPER, U, config  # noqa: E402

diffusers.utils.logging.set_verbosity_error()
OUT = HERE / "loops"
IDS, SEED, PASTE = np.array([0, 5, 4000000000], np.int64), 77, 0x40000000
LABELS, NULL = [2, 0, 3], 4
NETWORKS = {
    "epsilon": (os.path.join(GOLDEN, "trajectory", "epsilon_ema"), (12, 12, 1)),
    "sample": (os.path.join(GOLDEN, "trajectory", "sample"), (12, 12, 1)),
    "v_prediction": (os.path.join(GOLDEN, "trajectory", "v_prediction"), (12, 12, 1)),
    "learned": (os.path.join(GOLDEN, "unet_no_mid_out_6"), (8, 8, 3)),
    "classes": (str(OUT / "classes"), (8, 8, 3)),
}


class Widened:
    """A module, torch or numpy, whose float32 is float64."""

    def __init__(self, module):
        self.module = module

    def __getattr__(self, name):
        return getattr(self.module, name.replace("float32", "float64"))


def drawn(shape, stream, row):
    return oracle.nchw(oracle.normals(shape, IDS, SEED, stream, c2=row), torch.float64)


def pictures(shape):
    """Smooth images of about [-1, 1], of bytes as a file has them."""
    h, w, c = shape
    i, j, k, b = np.ogrid[:h, :w, :c, : len(IDS)]
    values = np.sin(0.5 * i * (1 + b) + 0.3 * j + 1.3 * k) * np.cos(0.4 * j - 0.2 * i * k)
    return (np.rint(255 * (values + 1) / 2) / 127.5 - 1).transpose(3, 0, 1, 2).astype(np.float32)


class Network:
    def __init__(self, name):
        folder, self.shape = NETWORKS[name]
        self.unet, self.classes = oracle.load_unet(folder, exact=True), name == "classes"

    def __call__(self, x, t, sigma, o):
        if not self.classes:
            return self.unet(x, t).sample
        with_labels = self.unet(x, t, class_labels=torch.tensor(LABELS)).sample
        low, high = o.get("interval", (0, 1e6))
        if o.get("guidance", 1) == 1 or not low < sigma <= high:
            return with_labels
        without = self.unet(x, t, class_labels=torch.full((len(IDS),), NULL)).sample
        F = without + o["guidance"] * (with_labels - without)
        ratio = with_labels.std((1, 2, 3), keepdim=True) / F.std((1, 2, 3), keepdim=True)
        return (o.get("rescale", 0) * ratio + 1 - o.get("rescale", 0)) * F


def sigma_of(s, i):
    """The noise level that step i sees."""
    if hasattr(s, "sigmas"):
        return float(s.sigmas[i])
    abar = float(s.alphas_cumprod[int(s.timesteps[i])])
    return np.sqrt((1 - abar) / abar) if abar else np.inf


def loop(net, scheduler, n, o):
    cls, row = type(scheduler), [0]
    module = vars(sys.modules[cls.__module__])
    mine = dict(torch=Widened(torch), np=Widened(np),
                randn_tensor=lambda *a, **k: drawn(net.shape, oracle.NOISE_SAMPLE_STEP, row[0]))
    module.update({k: v for k, v in mine.items() if k in module})
    torch.set_default_dtype(torch.float64)
    s = cls.from_config(scheduler.config)
    s.set_timesteps(n)
    skip = n - min(int(n * o.get("strength", 1)), n)
    if hasattr(s, "set_begin_index"):
        s.set_begin_index(skip)
    x = drawn(net.shape, oracle.NOISE_SAMPLE_INIT, 0)
    image = oracle.nchw(pictures(net.shape), torch.float64)
    if "strength" in o:
        x = s.add_noise(image, x, s.timesteps[skip : skip + 1])
    else:
        x = x * float(getattr(s, "init_noise_sigma", 1))
    keep = mask(net.shape) if o.get("masked") else None
    for row[0], t in enumerate(s.timesteps[skip:]):
        i = skip + row[0]
        y = s.scale_model_input(x, t) if hasattr(s, "scale_model_input") else x
        x = s.step(net(y, t, sigma_of(s, i), o), t, x, **o.get("step", {})).prev_sample
        if keep is not None:
            before = int(t) - s.config.num_train_timesteps // n  # DDIM's next level
            abar = float(s.alphas_cumprod[before]) if before >= 0 else 1.0
            known = abar**0.5 * image + (1 - abar) ** 0.5 * drawn(net.shape, PASTE, row[0])
            x = torch.where(keep, known, x)
    assert torch.isfinite(x).all()
    return oracle.nhwc(x)


def mask(shape):
    """Where the image stays: all but a rectangle."""
    h, w, _ = shape
    keep = torch.ones(1, 1, h, w, dtype=torch.bool)
    keep[:, :, 2 : h - 3, 3 : w - 2] = False
    return keep


def cases():
    """name, network, class, scheduler's config, steps, options"""
    most = ["DDPM", "DDIM", "EulerDiscrete", "EulerAncestralDiscrete", "HeunDiscrete", "KDPM2Discrete",
            "KDPM2AncestralDiscrete", "LMSDiscrete", "PNDM", "DEISMultistep", "DPMSolverMultistep",
            "DPMSolverSinglestep", "UniPCMultistep", "SASolver", "LCM", "TCD"]
    linear = dict(beta_schedule="linear", beta_start=1e-4, beta_end=0.02)
    kinds = ["epsilon", "sample", "v_prediction"]
    for i, name in enumerate(most):
        for j, n in enumerate((5, 10, 20, 50)):
            kind = kinds[(i + j) % 3]
            if name in ("KDPM2Discrete", "KDPM2AncestralDiscrete", "EulerAncestralDiscrete", "PNDM") and kind == "sample":
                kind = "v_prediction"
            betas = dict(beta_schedule="squaredcos_cap_v2") if kind == "v_prediction" and (i + j) % 2 else linear
            c = dict(linear, **betas, prediction_type=kind)
            if kind == "v_prediction" and betas is not linear:
                c["timestep_spacing"] = "leading"
            if name == "DPMSolverSinglestep":
                c.pop("timestep_spacing", None)
            if name in ("LCM", "TCD") and n == 50:
                continue
            yield f"{name}_{n}", kind, name, c, n, {}
    for name, c in (("DPMSolverMultistep", dict(algorithm_type="sde-dpmsolver++", use_karras_sigmas=True)),
                    ("DPMSolverMultistep", dict(solver_order=3)), ("DPMSolverSinglestep", dict(solver_order=3)),
                    ("UniPCMultistep", dict(solver_order=3)), ("DDPM", dict(variance_type="fixed_large")),
                    ("PNDM", dict(skip_prk_steps=True)),
                    ("UniPCMultistep", dict(thresholding=True, sample_max_value=1.5, dynamic_thresholding_ratio=0.9))):
        yield f"{name}_{'_'.join(map(str, c))}", "epsilon", name, dict(linear, **c), 12, {}
    yield "DDIM_eta", "epsilon", "DDIM", linear, 20, dict(step=dict(eta=0.7))
    zero = dict(linear, rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type="v_prediction")
    yield "DDIM_zero_snr", "v_prediction", "DDIM", zero, 10, {}
    yield "DDPM_zero_snr", "v_prediction", "DDPM", zero, 10, {}
    trained = dict(trained_betas=[round(1e-4 + 0.2 * (i / 99) ** 2, 6) for i in range(100)], num_train_timesteps=100)
    yield "DDPM_trained_betas", "epsilon", "DDPM", trained, 20, {}
    # "learned" is sqrt(V) in diffusers, but V is a log variance where it was trained (Nichol & Dhariwal 2021)
    yield "DDPM_learned_range", "learned", "DDPM", dict(linear, variance_type="learned_range"), 12, {}
    yield "DDPM_thresholding", "epsilon", "DDPM", dict(
        linear, thresholding=True, dynamic_thresholding_ratio=0.9, sample_max_value=2.0), 12, {}
    for name in ("DDIM", "DPMSolverMultistep"):
        yield f"{name}_classes", "classes", name, linear, 10, {}
        yield f"{name}_guidance", "classes", name, linear, 10, dict(guidance=2.5)
        yield f"{name}_rescale", "classes", name, linear, 10, dict(guidance=3.0, rescale=0.7)
        yield f"{name}_interval", "classes", name, linear, 10, dict(guidance=2.0, interval=(0.3, 20.0))
    threshold = dict(linear, thresholding=True, dynamic_thresholding_ratio=0.8, sample_max_value=2.0)
    yield "DDIM_guidance_thresholding", "classes", "DDIM", threshold, 10, dict(guidance=2.0, rescale=0.5)
    for name in ("DDIM", "DPMSolverMultistep", "UniPCMultistep", "EulerDiscrete", "DDPM"):
        yield f"{name}_strength", "epsilon", name, linear, 20, dict(strength=0.6)
    yield "DDIM_mask", "epsilon", "DDIM", linear, 20, dict(masked=True)
    yield "DDIM_strength_mask", "epsilon", "DDIM", linear, 20, dict(strength=0.5, masked=True)


def write_network():
    options = config(8, 3, (D, A), (AU, U), (8, 12), 1, 4, 4, **PAPER, num_class_embeds=5)
    oracle.random_unet(options, seed=41).save_pretrained(OUT / "classes")
    diffusers.DDPMScheduler().save_pretrained(OUT / "classes")


@torch.no_grad()
def main():
    oracle.be_deterministic()
    OUT.mkdir(exist_ok=True)
    write_network()
    lines, tensors, networks = [], {}, {}
    for name, network, cls, c, n, o in cases():
        torch.set_default_dtype(torch.float32)
        net = networks.setdefault(network, Network(network))
        scheduler = getattr(diffusers, cls + "Scheduler")(**c)
        text = json.dumps(dict({"_class_name": cls + "Scheduler"}, **c))
        flat = {**o, **o.get("step", {})}
        low, high = o.get("interval", (0, 1e6))
        words = [name, network, n, flat.get("eta", -1), o.get("guidance", 1), low, high, o.get("rescale", 0),
                 o.get("strength", 0), int(o.get("masked", False))]
        tensors[name] = loop(net, scheduler, n, o).astype(np.float32)
        lines.append(" ".join(map(str, words)) + " " + text + "\n")
    for shape in {net.shape for net in networks.values()}:
        tensors["images_%dx%dx%d" % shape] = pictures(shape)
    oracle.save_tensors(str(OUT / "images.safetensors"), tensors, "results in float64 of the loops of cases.txt")
    (OUT / "cases.txt").write_text("".join(lines))


main()
