"""make_loss_trajectories.py: 50 training steps for each loss, weight, noise and distribution of timesteps, by PyTorch.

    python tests/train/make_loss_trajectories.py

Writes tests/train/loss_trajectories.safetensors: for each run NAME.losses, NAME.errors, NAME.grad_norms F64 [50], and
NAME.vb where the variance is learned.
Everything is float64. The network, the images and the optimizer are those of tools/gen_golden.py's
trajectories; the losses are torch.nn.functional's, the weights are written from the papers, and the noise is that of
tools/oracle.py.
"""

import os
import sys

import numpy as np
import torch
from scipy.stats import norm

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "tools"))
import gen_golden as golden  # noqa: E402
import oracle  # noqa: E402

F = torch.nn.functional
STEPS, BATCH, SEED, T = 50, golden.BATCH, golden.SEED, oracle.T
OFFSET, PERTURB, STRATIFY = 0x40000001, 0x40000002, 0x40000003
ABAR = np.asarray(oracle.abar_exact(), np.float64)
SNR = ABAR / (1 - ABAR)


def charbonnier(out, target, c):
    return torch.sqrt((out - target) ** 2 + c * c) - c


LOSSES = {
    "l2": lambda out, target, c: F.mse_loss(out, target, reduction="none"),
    "l1": lambda out, target, c: F.l1_loss(out, target, reduction="none"),
    "huber": lambda out, target, c: F.huber_loss(out, target, reduction="none", delta=c),
    "smooth_l1": lambda out, target, c: F.smooth_l1_loss(out, target, reduction="none", beta=c),
    "pseudo_huber": charbonnier,
}

# The weight of x0's squared error, and the square of c_out: x0_hat = c_skip x_t + c_out F.
OF_X0 = {
    "snr": lambda snr: snr,
    "truncated_snr": lambda snr: max(snr, 1.0),
    "min_snr": lambda snr: min(snr, 5.0),
    "p2": lambda snr: snr / (1 + snr),
}
C_OUT = {"epsilon": lambda t: 1 / SNR[t], "sample": lambda t: 1.0, "v_prediction": lambda t: 1 - ABAR[t]}


def weight(run, t):
    if "weighting" not in run:
        return 1.0
    return OF_X0[run["weighting"]](SNR[t]) * C_OUT[run["prediction"]](t)


def huber_c(run, t):
    c = run.get("c", 0.1)
    schedule = run.get("schedule")
    if schedule == "exponential":
        return c ** (t / T)
    if schedule == "snr":
        return (1 - c) / (1 + 1 / np.sqrt(SNR[t])) ** 2 + c
    return c


def cumulative(run):
    u = np.arange(1, T) / T
    kind = run.get("draw", "uniform")
    if kind == "logit_normal":
        below = norm.cdf(np.log(u / (1 - u)))
    elif kind == "mode":
        v = np.linspace(0, 1, 2000001)
        value = 1 - v - 1.29 * (np.cos(np.pi * v / 2) ** 2 - 1 + v)  # falls
        below = 1 - np.interp(u, value[::-1], v[::-1])
    elif kind == "log_normal":
        sigma = np.log(np.sqrt((1 - ABAR) / ABAR))
        below = norm.cdf(((sigma[1:] + sigma[:-1]) / 2 + 1.2) / 1.2)
    else:
        below = u
    return np.concatenate([[0], np.rint(below * 2.0**32), [2.0**32]])


def edm_levels():
    """The 10000 sigmas of training, and the cumulative distribution of the nearest one to a log-normal sigma."""
    sigma = np.exp(np.linspace(np.log(0.002), np.log(80.0), 10000))
    border = (np.log(sigma[1:]) + np.log(sigma[:-1])) / 2
    return sigma, np.concatenate([[0], np.rint(norm.cdf((border + 1.2) / 1.2) * 2.0**32), [2.0**32]])


def words_of(ordinals):
    return oracle.philox(oracle.counters(1, ordinals, None, oracle.NOISE_TRAIN_T), SEED)[:, 0, 0].astype(np.int64)


def edm(run, unet, x0, eps, ordinals):
    """Karras et al. 2022, eq. 8: lambda (D - x0)^2, D = c_skip x + c_out F(c_in x, c_noise), table 1."""
    sigmas, distribution = edm_levels()
    sigma = torch.from_numpy(sigmas[np.searchsorted(distribution, words_of(ordinals), side="right") - 1])
    s, data = sigma.reshape(-1, 1, 1, 1), 0.5
    root = torch.sqrt(s**2 + data**2)
    sign = -1.0 if run["prediction"] == "v_prediction" else 1.0
    F_out = unet((x0 + s * eps) / root, sigma.log() / 4).sample
    D = data**2 / root**2 * (x0 + s * eps) + sign * s * data / root * F_out
    return (s**2 + data**2) / (s * data) ** 2 * (D - x0) ** 2


def vp(run, unet, x0, eps, ordinals):
    """The same table, VP: weight 1 / sigma^2, D = x - sigma F(x / sqrt(1 + sigma^2), 999 t), t uniform."""
    t = torch.from_numpy(np.linspace(1e-5, 1, 10000)[words_of(ordinals) * 10000 // 2**32])
    s = torch.sqrt(torch.expm1(19.9 / 2 * t**2 + 0.1 * t)).reshape(-1, 1, 1, 1)
    D = x0 + s * eps - s * unet((x0 + s * eps) / torch.sqrt(1 + s**2), 999 * t).sample
    return (D - x0) ** 2 / s**2


def ve(run, unet, x0, eps, ordinals):
    """The same table, VE: weight 1 / sigma^2, D = x + sigma F(x, ln(sigma / 2)), ln sigma uniform."""
    sigma = torch.exp(torch.from_numpy(np.linspace(np.log(0.02), np.log(100), 10000)[words_of(ordinals) * 10000 // 2**32]))
    s = sigma.reshape(-1, 1, 1, 1)
    D = x0 + s * eps + s * unet(x0 + s * eps, torch.log(sigma / 2)).sample
    return (D - x0) ** 2 / s**2


def flow(run, unet, x0, eps, ordinals):
    """Esser et al. 2024, section 3: x_t = (1 - u) x0 + u eps, target eps - x0; FlowMatchEulerDiscreteScheduler's times."""
    u = (timesteps(run, ordinals) + 1) / T
    shift = run.get("shift", 1.0)
    u = torch.from_numpy(shift * u / (1 + (shift - 1) * u))
    v = u.reshape(-1, 1, 1, 1)
    return (unet((1 - v) * x0 + v * eps, T * u).sample - (eps - x0)) ** 2


def by_loss(run, unet, x0, eps, ordinals, T=4):
    """Nichol & Dhariwal 2021, eq. 18: run["kept"][t] are the last ten losses at t; their code mixes in 0.001 / T."""
    kept = run.setdefault("kept", [[] for _ in range(T)])
    p = np.full(T, 1 / T)
    if all(len(losses) == 10 for losses in kept):
        w = np.sqrt(np.mean(np.square(kept), axis=1))
        p = 0.999 * w / w.sum() + 0.001 / T
    cumulative = np.rint(np.concatenate([[0], np.cumsum(p)]) * 2.0**32)
    t = np.searchsorted(cumulative, words_of(ordinals), side="right") - 1
    abar = torch.from_numpy(np.cumprod(1 - np.linspace(1e-4, 0.02, T))[t]).reshape(-1, 1, 1, 1)
    square = (unet(torch.sqrt(abar) * x0 + torch.sqrt(1 - abar) * eps, torch.from_numpy(t)).sample - eps) ** 2
    for b in range(len(t)):
        kept[t[b]] = (kept[t[b]] + [square[b].mean().item()])[-10:]
    return square, 1 / (T * p[t])


def zero_snr():
    """alpha-bar of Lin et al. 2023, algorithm 1."""
    root = np.sqrt(ABAR)
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    return root**2


def timesteps(run, ordinals):
    words = words_of(ordinals)
    if run.get("stratified"):
        base = int(oracle.philox(np.array([[0, 0, 0, STRATIFY]]), SEED)[0, 0])
        words = (base + ordinals.astype(np.int64) * 2654435769) % 2**32
    if run.get("draw", "uniform") == "uniform":
        return words * T // 2**32
    return np.searchsorted(cumulative(run), words, side="right") - 1


def batch(run, images, ordinals):
    x0 = golden.nchw(images[ordinals % len(images)] / 127.5 - 1, torch.float64)
    shape = images.shape[1:]
    eps = oracle.train_noise(shape, ordinals, SEED)
    eps = eps + run.get("offset", 0.0) * oracle.normals((1, 1, 4), ordinals, SEED, OFFSET)[..., : shape[2]]
    noise = eps + run.get("perturb", 0.0) * oracle.normals(shape, ordinals, SEED, PERTURB)
    t = timesteps(run, ordinals)
    abar = zero_snr() if run.get("zero_snr") else ABAR
    signal, level = (torch.from_numpy(np.sqrt(a[t])).reshape(-1, 1, 1, 1) for a in (abar, 1 - abar))
    eps, noise = golden.nchw(eps, torch.float64), golden.nchw(noise, torch.float64)
    target = {"epsilon": eps, "sample": x0, "v_prediction": signal * eps - level * x0}[run["prediction"]]
    return signal * x0 + level * noise, t, target


BETA = np.concatenate([[1 - ABAR[0]], 1 - ABAR[1:] / ABAR[:-1]])
BEFORE = np.concatenate([[1.0], ABAR[:-1]])  # alpha-bar of the timestep before
POSTERIOR = BETA * (1 - BEFORE) / (1 - ABAR)
LOG_POSTERIOR = np.log(np.concatenate([[POSTERIOR[1]], POSTERIOR[1:]]))
OF_X0_IN_MEAN = np.sqrt(BEFORE) * BETA / (1 - ABAR)
OF_XT_IN_MEAN = np.sqrt(1 - BETA) * (1 - BEFORE) / (1 - ABAR)


def cdf(a):
    return 0.5 * (1 + torch.tanh(np.sqrt(2 / np.pi) * (a + 0.044715 * a**3)))


def bits(run, mean_part, v, x0, x_t, t):
    """The variational bound of one reverse step, in bits per dimension: Nichol & Dhariwal 2021, eq. 4-7 and 15."""
    signal, noise = np.sqrt(ABAR[t]), np.sqrt(1 - ABAR[t])
    x0_hat = {
        "epsilon": lambda: (x_t - noise * mean_part) / signal,
        "sample": lambda: mean_part,
        "v_prediction": lambda: signal * x_t - noise * mean_part,
    }[run["prediction"]]()
    mean = OF_X0_IN_MEAN[t] * x0_hat + OF_XT_IN_MEAN[t] * x_t
    share = (v + 1) / 2
    log_variance = share * np.log(BETA[t]) + (1 - share) * LOG_POSTERIOR[t]
    if t == 0:
        k = torch.exp(-log_variance / 2)
        below, above = cdf(k * (x0 - mean - 1 / 255)), cdf(k * (x0 - mean + 1 / 255))
        inside = torch.where(x0 > 0.999, 1 - below, above - below)
        return -torch.log(torch.where(x0 < -0.999, above, inside).clamp(min=1e-12)).mean() / np.log(2)
    true_mean = OF_X0_IN_MEAN[t] * x0 + OF_XT_IN_MEAN[t] * x_t
    ratio = torch.exp(LOG_POSTERIOR[t] - log_variance)
    square = (true_mean - mean) ** 2 * torch.exp(-log_variance)
    return (0.5 * (-1 + log_variance - LOG_POSTERIOR[t] + ratio + square)).mean() / np.log(2)


def learn_variance(unet):
    """A second output channel, v, made of the first."""
    first = unet.conv_out
    both = torch.nn.Conv2d(first.in_channels, 2, first.kernel_size, padding=first.padding).double()
    with torch.no_grad():
        both.weight.copy_(torch.cat([first.weight, -0.5 * first.weight]))
        both.bias.copy_(torch.cat([first.bias, 0.25 - 0.5 * first.bias]))
    unet.conv_out = both
    return unet


RUNS = {
    "l1": {"loss": "l1"},
    "huber": {"loss": "huber"},
    "smooth_l1_exponential": {"loss": "smooth_l1", "schedule": "exponential"},
    "pseudo_huber_snr": {"loss": "pseudo_huber", "schedule": "snr"},
    "snr_x0": {"weighting": "snr", "prediction": "sample"},
    "truncated_snr_v": {"weighting": "truncated_snr", "prediction": "v_prediction"},
    "min_snr": {"weighting": "min_snr"},
    "min_snr_v": {"weighting": "min_snr", "prediction": "v_prediction"},
    "p2": {"weighting": "p2"},
    "noise_offset": {"offset": 0.1},
    "input_perturbation": {"perturb": 0.1, "offset": 0.05},
    "logit_normal": {"draw": "logit_normal"},
    "mode_stratified": {"draw": "mode", "stratified": True},
    "log_normal": {"draw": "log_normal", "prediction": "v_prediction"},
    "stratified": {"stratified": True},
    "zero_snr_v": {"zero_snr": True, "prediction": "v_prediction"},
    "edm": {"process": edm},
    "edm_v": {"process": edm, "prediction": "v_prediction"},
    "by_loss": {"process": by_loss},
    "vp": {"process": vp},
    "ve": {"process": ve},
    "flow": {"process": flow},
    "flow_shifted": {"process": flow, "shift": 3.0, "draw": "logit_normal"},
    "hybrid": {"learned": "hybrid"},
    "hybrid_v_min_snr": {"learned": "hybrid", "prediction": "v_prediction", "weighting": "min_snr"},
    "hybrid_x0_huber": {"learned": "hybrid", "prediction": "sample", "loss": "huber"},
    "vlb": {"learned": "vlb"},
    "vlb_v": {"learned": "vlb", "prediction": "v_prediction"},
}


def losses(run, unet, images, ordinals):
    """The loss of each image, and its squared error without weight; with a learned variance also the mean bound."""
    if "process" in run:
        x0 = golden.nchw(images[ordinals % len(images)] / 127.5 - 1, torch.float64)
        eps = golden.nchw(oracle.train_noise(images.shape[1:], ordinals, SEED), torch.float64)
        square = run["process"](run, unet, x0, eps, ordinals)
        square, factor = square if isinstance(square, tuple) else (square, np.ones(len(square)))
        return [f * s.mean() for f, s in zip(factor, square)], square.mean()
    x_t, t, target = batch(run, images, ordinals)
    out = unet(x_t, torch.from_numpy(t)).sample
    v = out[:, 1:]
    out = out[:, :1]
    each = [weight(run, t[b]) * LOSSES[run["loss"]](out[b], target[b], huber_c(run, t[b])).mean() for b in range(BATCH)]
    if "learned" not in run:
        return each, F.mse_loss(out, target)
    x0 = golden.nchw(images[ordinals % len(images)] / 127.5 - 1, torch.float64)
    alone = run["learned"] == "vlb"
    vb = [bits(run, out[b] if alone else out[b].detach(), v[b], x0[b], x_t[b], t[b]) for b in range(BATCH)]
    each = [T * vb[b] if alone else each[b] + T / 1000 * vb[b] for b in range(BATCH)]
    return each, F.mse_loss(out, target), sum(vb) / BATCH


def train(run, images):
    unet = oracle.load_unet(os.path.join(HERE, "..", "golden", "trajectory", "initial"), True)
    unet = learn_variance(unet) if "learned" in run else unet
    optimizer = torch.optim.AdamW(unet.parameters(), golden.LR, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    rates = golden.get_scheduler("constant_with_warmup", optimizer, num_warmup_steps=golden.WARMUP)
    record = {"losses": [], "errors": [], "grad_norms": []}
    for step in range(STEPS):
        each, error, *vb = losses(run, unet, images, np.arange(step * BATCH, (step + 1) * BATCH))
        loss = sum(each) / BATCH
        optimizer.zero_grad()
        loss.backward()
        record["grad_norms"].append(torch.nn.utils.clip_grad_norm_(unet.parameters(), golden.CLIP).item())
        optimizer.step()
        rates.step()
        record["losses"].append(loss.item())
        record["errors"].append(error.item())
        if vb:
            record.setdefault("vb", []).append(vb[0].item())
    return {key: np.stack(value) for key, value in record.items()}


def main():
    oracle.be_deterministic()
    images = golden.make_images()
    tensors = {}
    for name, run in RUNS.items():
        record = train({"loss": "l2", "prediction": "epsilon", **run}, images)
        tensors.update({f"{name}.{key}": value for key, value in record.items()})
        print(name, record["losses"][0], record["losses"][-1], flush=True)
    oracle.save_tensors(os.path.join(HERE, "loss_trajectories.safetensors"), tensors, "50 steps of 8 images in float64")


if __name__ == "__main__":
    main()
