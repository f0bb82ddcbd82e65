"""make_bits_per_dim.py: bits per dimension of two images under a small network, in float64.

    python tests/eval/make_bits_per_dim.py

Writes tests/eval/bits_per_dim.txt, a line a case: prediction, variance, clip, steps; bits per dimension in all, prior, the
first step's bound, and the means over the steps of the mean squared errors of x0 and eps.

The network and the images are those of tools/gen_golden.py's trajectories; for learned_range it gets a second output
channel as in tests/train/make_loss_trajectories.py. The formulas are written from Nichol & Dhariwal 2021 (arXiv:2102.09672)
and Ho et al. 2020, as calc_bpd_loop() of improved-diffusion has them, with posteriors of a respaced chain; the noise is
that of tools/oracle.py.
"""

import os
import sys

import numpy as np
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "tools"))
sys.path.insert(0, os.path.join(HERE, "..", "train"))
import gen_golden as golden  # noqa: E402
import make_loss_trajectories as training  # noqa: E402
import oracle  # noqa: E402

EVAL, SEED, IMAGES, BATCH = 0x40000100, 7, 2, 125
ABAR = training.ABAR
T = len(ABAR)


def full_posterior(t):
    """Weights of x0 and x_t in the mean of the whole chain's posterior, which the prediction mu is of."""
    return training.OF_X0_IN_MEAN[t], training.OF_XT_IN_MEAN[t]


def x0_of(prediction, out, x_t, t, column):
    signal, noise = column(np.sqrt(ABAR[t])), column(np.sqrt(1 - ABAR[t]))
    if prediction == "epsilon":
        return (x_t - noise * out) / signal
    if prediction == "sample":
        return out
    if prediction == "v_prediction":
        return signal * x_t - noise * out
    of_x0, of_xt = (column(w) for w in full_posterior(t))
    return (out - of_xt * x_t) / of_x0


def evaluate(unet, images, prediction, variance, clip, steps):
    t = np.round(np.linspace(0, T - 1, steps)).astype(np.int64)
    abar = ABAR[t]
    before = np.concatenate([[1.0], abar[:-1]])
    beta = 1 - abar / before
    posterior = beta * (1 - before) / (1 - abar)
    clipped = np.log(np.concatenate([[posterior[1]], posterior[1:]]))
    of_x0, of_xt = np.sqrt(before) * beta / (1 - abar), np.sqrt(1 - beta) * (1 - before) / (1 - abar)
    large = np.log(np.concatenate([[posterior[1]], beta[1:]]))
    vb, x0_mse, eps_mse, prior = np.zeros(steps), np.zeros(steps), np.zeros(steps), 0.0
    for i in range(IMAGES):
        x0 = golden.nchw(images[i : i + 1] / 127.5 - 1, torch.float64)
        variance_of_x = 1 - ABAR[t[-1]]
        prior += (0.5 * (-1 - np.log(variance_of_x) + variance_of_x + ABAR[t[-1]] * x0**2)).mean().item() / np.log(2) / IMAGES
        for first in range(0, steps, BATCH):
            k = np.arange(first, min(first + BATCH, steps))
            column = lambda a: torch.from_numpy(np.asarray(a, np.float64)).reshape(-1, 1, 1, 1)  # noqa: E731
            eps = golden.nchw(oracle.normals(images.shape[1:], i * steps + k, SEED, EVAL), torch.float64)
            x_t = column(np.sqrt(abar[k])) * x0 + column(np.sqrt(1 - abar[k])) * eps
            with torch.no_grad():
                answer = unet(x_t, torch.from_numpy(t[k])).sample
            x0_hat = x0_of(prediction, answer[:, :1], x_t, t[k], column)
            x0_hat = x0_hat.clamp(-1, 1) if clip else x0_hat
            if variance == "learned_range":
                share = (answer[:, 1:] + 1) / 2
                log_variance = share * column(np.log(beta[k])) + (1 - share) * column(clipped[k])
            else:
                log_variance = column((large if variance == "fixed_large" else clipped)[k]).expand_as(x0_hat)
            mean = column(of_x0[k]) * x0_hat + column(of_xt[k]) * x_t
            true_mean = column(of_x0[k]) * x0 + column(of_xt[k]) * x_t
            kl = 0.5 * (
                -1
                + log_variance
                - column(clipped[k])
                + torch.exp(column(clipped[k]) - log_variance)
                + (true_mean - mean) ** 2 * torch.exp(-log_variance)
            )
            inverse = torch.exp(-log_variance / 2)
            below, above = (training.cdf(inverse * (x0 - mean + side / 255)) for side in (-1, 1))
            inside = torch.where(x0 > 0.999, 1 - below, above - below)
            decoder = -torch.log(torch.where(x0 < -0.999, above, inside).clamp(min=1e-12))
            bits = torch.where(column(k) == 0, decoder, kl).mean(dim=(1, 2, 3)) / np.log(2)
            eps_hat = (x_t - column(np.sqrt(abar[k])) * x0_hat) / column(np.sqrt(1 - abar[k]))
            vb[k] += bits.numpy() / IMAGES
            x0_mse[k] += ((x0_hat - x0) ** 2).mean(dim=(1, 2, 3)).numpy() / IMAGES
            eps_mse[k] += ((eps_hat - eps) ** 2).mean(dim=(1, 2, 3)).numpy() / IMAGES
    return vb.sum() + prior, prior, vb[0], x0_mse.mean(), eps_mse.mean()


CASES = [
    ("epsilon", "fixed_small", True, T),
    ("epsilon", "learned_range", True, T),
    ("epsilon", "fixed_large", False, 25),
    ("epsilon", "fixed_large", True, 25),
    ("epsilon", "fixed_small", False, 25),
    ("epsilon", "learned_range", False, 25),
    ("sample", "fixed_large", True, 25),
    ("sample", "learned_range", True, 10),
    ("v_prediction", "fixed_small", True, 25),
    ("v_prediction", "learned_range", False, 7),
    ("mu", "fixed_large", True, 25),
    ("mu", "learned_range", True, 50),
]


def main():
    oracle.be_deterministic()
    images = golden.make_images()
    with open(os.path.join(HERE, "bits_per_dim.txt"), "w") as file:
        for prediction, variance, clip, steps in CASES:
            unet = oracle.load_unet(os.path.join(HERE, "..", "golden", "trajectory", "initial"), True)
            if variance == "learned_range":
                unet = training.learn_variance(unet)
            numbers = evaluate(unet.eval(), images, prediction, variance, clip, steps)
            file.write(f"{prediction} {variance} {int(clip)} {steps} " + " ".join(f"{x:.12g}" for x in numbers) + "\n")
            print(prediction, variance, clip, steps, *numbers, flush=True)


if __name__ == "__main__":
    main()
