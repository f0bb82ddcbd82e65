"""Write tests/diffusion/sampler_tables.txt: what diffusers' schedulers make of a toy network, in double.

Needs diffusers 0.42.1, torch, numpy and scipy; run from anywhere.  Every scheduler runs in its own loop, over one
small image, a nonlinear network (toy() below, which tests/diffusion/test_sampler_tables.c has in C) and a noise that both
compute (noise() below).  diffusers rounds to float32 in many places; here the modules see float64 in its place.

A case is three lines: the scheduler_config.json, without the keys that have the class's defaults; sampler ("folder": that
of the class; edm_karras: edm with Karras' sigmas), steps, eta,
churn, churn_min, churn_max, churn_noise, clipped_eps; and the result: the timesteps that the network was told, a bar,
and the image."""

import itertools
import json
import math
import pathlib
import sys
import warnings

import numpy as np
import torch

warnings.filterwarnings("ignore")
import diffusers  # noqa: E402
from scipy.stats import beta as beta_law  # noqa: E402

diffusers.utils.logging.set_verbosity_error()
D = 6  # elements of the image


class Widened:
    """A module, torch or numpy, whose float32 is float64."""

    def __init__(self, module):
        self.module = module

    def __getattr__(self, name):
        return getattr(self.module, name.replace("float32", "float64"))


def noise(i):
    """Of row i, -1 for x_T: deterministic, of about unit variance."""
    k = np.arange(D)
    return torch.tensor(1.4 * np.sin(1.7 + 2.3 * (i + 1) + 0.9 * k * (1 + (i + 1) % 5)), dtype=torch.float64)


def sigmas_of(beta_schedule, zero_snr, T=1000):
    f = np.cos((np.arange(T + 1) / T + 0.008) / 1.008 * np.pi / 2) ** 2
    betas = np.linspace(1e-4, 0.02, T) if beta_schedule == "linear" else np.minimum(1 - f[1:] / f[:-1], 0.999)
    abar = np.cumprod(1 - betas)
    if zero_snr:
        r = np.sqrt(abar)
        abar = ((r - r[-1]) * r[0] / (r[0] - r[-1])) ** 2
    abar = np.where(abar < 1e-12, 2.0**-24, abar)
    return np.sqrt((1 - abar) / abar)


def toy(level, prediction, learned):
    """A network that predicts a bounded x_0, of the scale and the noise that level(t) says x has."""

    def net(x, t):
        al, sg, c_skip, c_out = level(t)
        x0 = 1.2 * torch.tanh(1.3 * al * x + 0.8 * torch.sin(x.roll(1) + 4 * sg + t / 97))
        if prediction == "edm":
            F = (x0 - c_skip * x) / c_out
        elif prediction == "epsilon":
            F = (x - al * x0) / sg
        elif prediction == "v_prediction":
            F = (al * x - x0) / sg
        elif prediction == "flow_prediction":
            F = (x - (al + sg) * x0) / sg
        else:
            F = x0
        return torch.cat([F, torch.sin(3 * x + t)]) if learned else F

    return net


def vp_level(sigma):
    def level(t):
        s = float(np.interp(t, np.arange(len(sigma)), sigma))
        return 1 / math.hypot(1, s), s / math.hypot(1, s), 0, 0

    return level


def edm_level(rate, negative=False):
    def level(t):
        s, data = math.exp(t * rate), 0.5
        c_in = 1 / math.hypot(s, data)
        return c_in, s * c_in, data**2 * c_in, (-1 if negative else 1) * s * data * c_in

    return level


def flow_level(t):
    return 1 - t / 1000, t / 1000, 0, 0


def level_of(name, config, prediction):
    if name == "CMStochasticIterative":
        return edm_level(1 / 250), "edm"
    if name.startswith("EDM"):
        return edm_level(4, config.get("prediction_type") == "v_prediction"), "edm"
    if name.startswith("FlowMatch"):
        return flow_level, "flow_prediction"
    if config.get("use_flow_sigmas"):
        return flow_level, prediction
    zero_snr = config.get("rescale_betas_zero_snr", False)
    return vp_level(sigmas_of(config.get("beta_schedule", "linear"), zero_snr)), prediction


def run(name, config, n, options):
    cls, told = getattr(diffusers, name + "Scheduler"), []
    prediction = config.get("prediction_type", "epsilon")
    level, prediction = level_of(name, config, prediction)
    net = toy(level, prediction, config.get("variance_type", "")[:7] == "learned")
    module = vars(sys.modules[cls.__module__])
    mine = dict(torch=Widened(torch), np=Widened(np), randn_tensor=lambda *a, **k: noise(len(told) - 1).view(1, D, 1, 1))
    module.update({k: v for k, v in mine.items() if k in module})
    torch.set_default_dtype(torch.float64)
    s = cls(**config)
    s.set_timesteps(n)
    if hasattr(s, "set_begin_index"):
        s.set_begin_index(0)
    x = noise(-1).view(1, D, 1, 1) * float(getattr(s, "init_noise_sigma", 1))
    for t in s.timesteps:
        told.append(float(t))
        y = s.scale_model_input(x, t) if hasattr(s, "scale_model_input") else x
        x = s.step(net(y.flatten(), float(t)).view(1, -1, 1, 1), t, x, **options).prev_sample
    assert torch.isfinite(x).all()
    return x.flatten().tolist(), told


EDM = dict(sigma_min=0.002, sigma_max=80.0, data=0.5, rho=7)


def algorithm_2(n, churn, low, high, factor):
    """Karras et al. 2022, algorithm 2, as printed."""

    def at(sigma):
        c_in = 1 / math.hypot(sigma, 0.5)
        return c_in, 0.25 * c_in, sigma * 0.5 * c_in

    net = toy(edm_level(4), "edm", False)
    told = []

    def denoise(x, sigma):
        c_in, c_skip, c_out = at(sigma)
        told.append(math.log(sigma) / 4)
        return c_skip * c_in * x + c_out * net(c_in * x, math.log(sigma) / 4)

    lo, hi = 0.002 ** (1 / 7), 80 ** (1 / 7)
    sigma = [*((hi + np.linspace(0, 1, n) * (lo - hi)) ** 7), 0.0]
    x = None
    for i in range(n):
        gamma = min(churn / n, math.sqrt(2) - 1) if low <= sigma[i] <= high else 0
        hat = sigma[i] * (1 + gamma)
        if x is None:
            x = math.hypot(80, factor * math.sqrt(hat**2 - 80**2) if gamma else 0) * noise(-1)
        elif gamma:
            x = x + math.sqrt(hat**2 - sigma[i] ** 2) * factor * noise(2 * i - 1)
        d, dt = (x - denoise(x, hat)) / hat, sigma[i + 1] - hat
        x, y = x + dt * d, x
        if sigma[i + 1]:
            x = y + dt / 2 * (d + (x - denoise(x, sigma[i + 1])) / sigma[i + 1])
    return x.tolist(), told


def vp_time(sigma, rise=19.9, low=0.1):
    return (math.sqrt(low**2 + 2 * rise * math.log(1 + sigma**2)) - low) / rise


# Karras et al. 2022, table 1, columns VP and VE: sigma -> (scale of x, c_skip, c_out, c_noise), and the sigmas.
def of_vp(sigma):
    return 1 / math.sqrt(1 + sigma**2), 1, -sigma, 999 * vp_time(sigma)


def of_ve(sigma):
    return 1, 1, sigma, math.log(sigma / 2)


def table_1(name, n, rho):
    u = [i / (n - 1) if n > 1 else 0 for i in range(n)]
    if name == "vp":
        sigma_of = lambda t: math.sqrt(math.exp(19.9 / 2 * t**2 + 0.1 * t) - 1)  # noqa: E731
        steps = [sigma_of(1 + a * (1e-3 - 1)) for a in u]
        high, low = sigma_of(1), sigma_of(1e-3)
    else:
        steps, high, low = [math.sqrt(100**2 * (0.02**2 / 100**2) ** a) for a in u], 100, 0.02
    if rho:
        steps = [(high ** (1 / rho) + a * (low ** (1 / rho) - high ** (1 / rho))) ** rho for a in u]
    return steps + [0.0]


def generalized(name, solver, n, rho=None, churn=0.0, low=0.0, high=math.inf, factor=1.0):
    """Karras et al. 2022, algorithm 2 in x_0 + sigma eps, by Heun's or Euler's method, and DPM-Solver++(2M), of a network that
    is wrapped as VP's or VE's is.  The noise of the first step is part of that of x_T, as in algorithm_2()."""
    of = of_vp if name == "vp" else of_ve
    told, sigma, x, old = [], table_1(name, n, rho), None, None

    def denoise(x, s):
        scale, c_skip, c_out, time = of(s)
        net = toy(lambda t: (scale, s * scale, c_skip / scale, c_out), "edm", False)
        told.append(time)
        return c_skip * x + c_out * net(scale * x, time)

    if solver != "heun":
        x = math.hypot(1, sigma[0]) * noise(-1)
    for i in range(n):
        gamma = min(churn / n, math.sqrt(2) - 1) if low <= sigma[i] <= high else 0
        hat = sigma[i] * (1 + gamma)
        if x is None:
            x = math.hypot(sigma[0], factor * math.sqrt(hat**2 - sigma[0] ** 2) if gamma else 0) * noise(-1)
        elif gamma:
            x = x + math.sqrt(hat**2 - sigma[i] ** 2) * factor * noise(2 * i - 1)
        D = denoise(x, hat)
        if solver == "dpmpp":
            h = math.log(hat / sigma[i + 1]) if sigma[i + 1] else math.inf
            blend = D
            if old is not None and sigma[i + 1]:
                r = math.log(sigma[i - 1] / sigma[i]) / h
                blend = (1 + 1 / (2 * r)) * D - 1 / (2 * r) * old
            x, old = sigma[i + 1] / hat * x - math.expm1(-h) * blend, D
            continue
        d, dt = (x - D) / hat, sigma[i + 1] - hat
        x, y = x + dt * d, x
        if sigma[i + 1] and solver == "heun":
            x = y + dt / 2 * (d + (x - denoise(x, sigma[i + 1])) / sigma[i + 1])
    return x.tolist(), told


SPACINGS = "leading", "trailing", "linspace"
PREDICTIONS = "epsilon", "v_prediction", "sample"
COSINE = "squaredcos_cap_v2"
CHURN = dict(s_churn=8.0, s_tmin=0.05, s_tmax=50.0, s_noise=1.003)
SOLVERS = "DPMSolverMultistep", "UniPCMultistep", "DEISMultistep", "SASolver"
K_FAMILY = "EulerDiscrete", "EulerAncestralDiscrete", "HeunDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete", \
    "LMSDiscrete"


def plain():
    for name in ("DDPM", "DDIM", *K_FAMILY, "PNDM", *SOLVERS):
        for spacing, prediction in itertools.product(SPACINGS, PREDICTIONS):
            if prediction == "sample" and name in ("PNDM", "KDPM2Discrete", "KDPM2AncestralDiscrete", "EulerAncestralDiscrete"):
                continue
            yield name, dict(timestep_spacing=spacing, prediction_type=prediction), (10,), {}
        yield name, {}, (5, 20, 50), {}
        if name not in ("DDPM", "DDIM", "PNDM", "EulerAncestralDiscrete"):
            for kind in ("karras", "exponential", "beta"):
                yield name, {f"use_{kind}_sigmas": True}, (5, 10, 20), {}
        if name in ("DDPM", "DDIM", "EulerDiscrete", "EulerAncestralDiscrete", "DPMSolverMultistep", "UniPCMultistep"):
            c = dict(timestep_spacing="trailing", rescale_betas_zero_snr=True, prediction_type="v_prediction")
            yield name, c, (10,), {}
    for name in ("DDPM", "DDIM", "EulerDiscrete", "HeunDiscrete", "DPMSolverMultistep", "UniPCMultistep"):
        yield name, dict(timestep_spacing="leading", steps_offset=1), (10,), {}


def one_step():
    yield "DDPM", dict(variance_type="fixed_large"), (10,), {}
    yield "DDPM", dict(variance_type="learned_range"), (10, 50), {}
    yield "DDPM", dict(clip_sample=False), (10,), {}
    yield "DDPM", dict(clip_sample_range=0.7), (10,), {}
    for c in (dict(thresholding=True, dynamic_thresholding_ratio=0.9, sample_max_value=1.1),):
        yield "DDPM", c, (10,), {}
        yield "DPMSolverMultistep", c, (10,), {}
    for to_one, prediction, eta, clipped in itertools.product((True, False), PREDICTIONS, (0.0, 0.7), (True, False)):
        c = dict(set_alpha_to_one=to_one, prediction_type=prediction)
        yield "DDIM", c, (10,), dict(eta=eta, use_clipped_model_output=clipped)
    for to_one, prediction in itertools.product((True, False), PREDICTIONS):
        if prediction != "sample" or not to_one:
            c = dict(set_alpha_to_one=to_one, prediction_type=prediction, clip_sample=False)
            yield "DDIMInverse", c, (10, 20), {}
    for prediction, final in itertools.product(PREDICTIONS, ("zero", "sigma_min")):
        yield "EulerDiscrete", dict(prediction_type=prediction, final_sigmas_type=final), (10,), CHURN
    yield "HeunDiscrete", dict(clip_sample=True), (10,), {}
    for stochastic in (False, True):
        yield "FlowMatchEulerDiscrete", dict(shift=3.0, stochastic_sampling=stochastic), (5, 10), {}
    yield "CMStochasticIterative", {}, (1, 2, 5, 10), {}
    yield "LCM", dict(beta_start=1e-4, beta_end=0.02, beta_schedule="linear"), (1, 4, 10), {}
    for gamma in (0.0, 0.3, 1.0):
        yield "TCD", dict(beta_start=1e-4, beta_end=0.02, beta_schedule="linear"), (4, 10), dict(eta=gamma)
    for c in ({}, dict(sigma_schedule="exponential"), dict(prediction_type="v_prediction"), dict(rho=5, sigma_max=40.0)):
        yield "EDMEuler", c, (10,), {}
        yield "EDMEuler", c, (10,), CHURN
    yield "PNDM", dict(set_alpha_to_one=True), (5, 10, 30), {}
    for to_one, prediction in itertools.product((True, False), ("epsilon", "v_prediction")):
        c = dict(skip_prk_steps=True, prediction_type=prediction, set_alpha_to_one=to_one)
        yield "PNDM", c, (5, 10, 50), {}


def solvers():
    orders, solver_types, algorithms = (1, 2, 3), ("midpoint", "heun"), ("dpmsolver++", "dpmsolver", "sde-dpmsolver++",
                                                                         "sde-dpmsolver")
    for order, solver, algorithm in itertools.product(orders, solver_types, algorithms):
        c = dict(solver_order=order, solver_type=solver, algorithm_type=algorithm, lower_order_final=solver[0] == "m",
                 euler_at_final=solver[0] == "h", final_sigmas_type="zero" if algorithm[-1] == "+" else "sigma_min")
        if order < 3 or algorithm != "sde-dpmsolver":
            yield "DPMSolverMultistep", c, (5, 20), {}
        if algorithm[0] == "d" or (order < 3 and algorithm[-1] == "+"):
            c = {k: v for k, v in c.items() if k != "euler_at_final"} | dict(lower_order_final=True)
            yield "DPMSolverSinglestep", c, (5, 6, 7, 20), {}
            yield "DPMSolverSinglestep", c | dict(use_karras_sigmas=True), (6,), {}
    for name in ("DPMSolverMultistep", "DPMSolverSinglestep", "SASolver"):
        yield name, dict(lambda_min_clipped=-5.1), (10,), {}
    yield "DPMSolverMultistep", dict(use_lu_lambdas=True), (10,), {}
    yield "DPMSolverMultistep", dict(solver_order=3), (10, 14, 15, 50), {}
    for kind in ("karras", "exponential", "beta"):
        yield "DPMSolverMultistep", {f"use_{kind}_sigmas": True, "final_sigmas_type": "sigma_min"}, (10,), {}
    for order, bh, data in itertools.product((1, 2, 3, 4), ("bh1", "bh2"), (True, False)):
        c = dict(solver_order=order, solver_type=bh, predict_x0=data, disable_corrector=[1] if bh == "bh1" else [],
                 final_sigmas_type="sigma_min")
        yield "UniPCMultistep", c, (10, 20), {}
        c = dict(predictor_order=order, corrector_order=max(order - (bh == "bh1"), 1),
                 algorithm_type="data_prediction" if data else "noise_prediction")
        yield "SASolver", c, (10,), {}
    yield "UniPCMultistep", dict(solver_order=3), (5, 10, 50), {}
    yield "UniPCMultistep", dict(solver_order=2, lower_order_final=False, final_sigmas_type="sigma_min"), (10,), {}
    for order in orders:
        yield "DEISMultistep", dict(solver_order=order), (5, 10, 14, 15), {}
        yield "DEISMultistep", dict(solver_order=order, thresholding=True), (10,), {}
    flow = dict(use_flow_sigmas=True, flow_shift=3.0, prediction_type="flow_prediction")
    for name in (*SOLVERS, "DPMSolverSinglestep"):
        yield name, flow, (10,), {}
    yield "UniPCMultistep", flow | dict(flow_shift=1.0), (10,), {}
    for order, algorithm in ((2, "dpmsolver++"), (3, "dpmsolver++"), (2, "sde-dpmsolver++")):
        yield "EDMDPMSolverMultistep", dict(solver_order=order, algorithm_type=algorithm), (5, 20), {}
    yield "EDMDPMSolverMultistep", dict(final_sigmas_type="sigma_min"), (10,), {}


WITHOUT_BETAS = "EDMEuler", "EDMDPMSolverMultistep", "FlowMatchEulerDiscrete", "CMStochasticIterative", "LCM", "TCD"


def cases():
    for name, config, ns, options in itertools.chain(plain(), one_step(), solvers()):
        if name in WITHOUT_BETAS or config.get("use_flow_sigmas"):
            yield name, config, ns, options
            continue
        # cosine betas: for every other case, with an x_T whose x_0 double can still tell
        schedules = ["linear"]
        if not any(k.startswith("use_") for k in config) and config.get("steps_offset") is None:
            schedules.append(COSINE)
        for schedule in schedules:
            c = config | dict(beta_start=1e-4, beta_end=0.02) if schedule == "linear" else config | dict(beta_schedule=COSINE)
            yield name, c, ns if schedule == "linear" else ns[:1], options


def write():
    lines = []

    def add(config, spec, n, result):
        x, told = result
        lines.append(json.dumps(config).replace(" ", ""))
        lines.append(" ".join([spec["sampler"], str(n), *(f"{spec.get(k, v):g}" for k, v in DEFAULTS.items())]))
        lines.append(" ".join(f"{t:.9g}" for t in told) + " | " + " ".join(f"{v:.12g}" for v in x))

    DEFAULTS = dict(eta=0, s_churn=0, s_tmin=0, s_tmax=math.inf, s_noise=1, use_clipped_model_output=0)
    for name, config, ns, options in cases():
        for n in ns:
            spec = dict(sampler="folder") | options
            try:
                result = run(name, config, n, options)
            except Exception as problem:
                print(f"{name} {config} {n} {options}: {type(problem).__name__} {problem}")
                continue
            add(dict(_class_name=name + "Scheduler") | config, spec, n, result)
    for n in (1, 5, 18):
        for churn, low, high in ((0.0, 0.05, 50.0), (40.0, 0.05, 50.0), (10.0, 0.0, math.inf)):
            spec = dict(sampler="edm", s_churn=churn, s_tmin=low, s_tmax=high, s_noise=1.003)
            add(dict(_class_name="EDMEulerScheduler"), spec, n, algorithm_2(n, churn, low, high, 1.003))
    for name, n in itertools.product(("vp", "ve"), (1, 5, 18)):
        cls = dict(_class_name=f"ScoreSde{name.capitalize()}Scheduler", preconditioning=name, num_train_timesteps=1000)
        cls |= dict(sigma_min=0.02, sigma_max=100) if name == "ve" else {}
        for churn, low, high in ((0.0, 0.05, 50.0), (40.0, 0.05, 50.0), (10.0, 0.0, math.inf)):
            spec = dict(sampler="edm", s_churn=churn, s_tmin=low, s_tmax=high, s_noise=1.003)
            add(cls, spec, n, generalized(name, "heun", n, None, churn, low, high, 1.003))
        add(cls, dict(sampler="edm_euler"), n, generalized(name, "euler", n))
        add(cls, dict(sampler="edm_dpmpp"), n, generalized(name, "dpmpp", n))
        add(cls, dict(sampler="edm_karras"), n, generalized(name, "heun", n, 7))
    here = pathlib.Path(__file__).parent
    (here / "sampler_tables.txt").write_text("\n".join(lines) + "\n")
    p = [1e-9, 1e-6, 0.001, 0.01, 0.1, 0.25, 0.5, 0.6, 0.75, 0.9, 0.99, 0.999, 1 - 1e-6]
    for a, b in ((0.6, 0.6), (2.0, 5.0)):
        print("quantiles of beta", a, b, ", ".join(f"{v!r}" for v in beta_law.ppf(p, a, b).tolist()))


write()
