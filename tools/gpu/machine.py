"""machine.py - where the compilers, libraries and the device are, as found; nothing is changed."""

import functools
import glob
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CUDA_PLACES = ["/usr/local/cuda", "/usr/local/cuda-13.0", "/usr/local/cuda-13", "/usr/local/cuda-12", "/opt/cuda"]


def text_of(command, env=None, most=30):
    """Output of a command, stripped; "" where it cannot be had."""
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=most)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def prepend(env, name, *folders):
    have = [f for f in env.get(name, "").split(os.pathsep) if f]
    env[name] = os.pathsep.join([f for f in folders if os.path.isdir(f) and f not in have] + have)
    if not env[name]:
        del env[name]


def cuda_home():
    nvcc = shutil.which("nvcc")
    places = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")]
    places += [os.path.dirname(os.path.dirname(os.path.realpath(nvcc)))] if nvcc else []
    return next((p for p in places + CUDA_PLACES if p and os.path.exists(os.path.join(p, "bin", "nvcc"))), None)


@functools.lru_cache(None)
def python_for_torch():
    """The Python that has PyTorch: this one, python3, or none.  Found without importing it, which takes seconds."""
    look = "import importlib.util; print(importlib.util.find_spec('torch') or '')"
    for python in (os.environ.get("DDPM_PYTHON"), sys.executable, shutil.which("python3")):
        if python and text_of([python, "-c", look]):
            return python
    return None


def package_folders(python):
    """{"cudnn": folder, ...}: NVIDIA's libraries as Python packages, each with include and lib."""
    if not python:
        return {}
    text = text_of([python, "-c", "import nvidia; print('\\n'.join(nvidia.__path__))"])
    folders = {}
    for base in text.splitlines():
        for path in glob.glob(os.path.join(base, "*")):
            if os.path.isdir(os.path.join(path, "lib")):
                folders.setdefault(os.path.basename(path), path)
    return folders


def link_in(folder, files):
    os.makedirs(folder, exist_ok=True)
    for path in files:
        link = os.path.join(folder, os.path.basename(path))
        if not os.path.lexists(link):
            os.symlink(path, link)


def has_library(home, name):
    return any(glob.glob(os.path.join(home, d, f"lib{name}.so*")) for d in ("lib64", "lib", "targets/x86_64-linux/lib"))


def packaged_libraries(home, python, prefix):
    """A prefix with cuDNN, cuBLASLt and CUPTI out of the Python packages, for a toolkit that lacks them; its
    folder, or None where the toolkit has all."""
    lacking = [n for n in ("cudnn", "cublasLt", "cupti") if not home or not has_library(home, n)]
    if not lacking:
        return None
    for folder in package_folders(python).values():
        for name in lacking:
            libraries = glob.glob(os.path.join(folder, "lib", f"lib{name}.so.*"))
            if not libraries:
                continue
            link_in(os.path.join(prefix, "lib"), glob.glob(os.path.join(folder, "lib", "lib*.so*")))
            link_in(os.path.join(prefix, "include"), glob.glob(os.path.join(folder, "include", name[:5] + "*.h")))
            plain = os.path.join(prefix, "lib", f"lib{name}.so")
            if not os.path.lexists(plain):
                os.symlink(libraries[0], plain)
    return prefix if os.path.isdir(prefix) else None


def dependencies(env, deps):
    """Make the compiler, the linker, the loader, pkg-config and CMake find what tools/gpu_pack unpacked."""
    usr = os.path.join(deps, "usr")
    if not os.path.isdir(usr):
        return
    lib = next(iter(glob.glob(os.path.join(usr, "lib", "*-linux-gnu"))), os.path.join(usr, "lib"))
    prepend(env, "CPATH", os.path.join(usr, "include"))
    prepend(env, "LIBRARY_PATH", lib)
    prepend(env, "LD_LIBRARY_PATH", lib)
    prepend(env, "CMAKE_PREFIX_PATH", usr)
    prepend(env, "CMAKE_LIBRARY_PATH", lib)
    # The packages' own files say prefix=/usr: the sysroot puts the folder before it.
    env["PKG_CONFIG_SYSROOT_DIR"] = deps
    env["PKG_CONFIG_LIBDIR"] = os.path.join(lib, "pkgconfig")
    if not shutil.which("pkg-config"):
        env["PKG_CONFIG"] = os.path.join(usr, "bin", "pkg-config")
    if "libgomp.so.1" not in text_of(["ldconfig", "-p"]) and "libgomp.so.1" not in text_of(["/sbin/ldconfig", "-p"]):
        prepend(env, "LD_LIBRARY_PATH", os.path.join(deps, "fallback"))


def build_environment(deps, scratch):
    """The environment that builds and runs our programs.  The rivals get plain_environment(): nothing of this
    may come between PyTorch and the libraries it brings."""
    env = dict(os.environ)
    home = cuda_home()
    if home:
        env["CUDA_HOME"] = home
        prepend(env, "PATH", os.path.join(home, "bin"))
    dependencies(env, deps)
    prefix = packaged_libraries(home, python_for_torch(), os.path.join(scratch, "prefix"))
    if prefix:
        env["CUDNN_HOME"] = prefix
        prepend(env, "CMAKE_PREFIX_PATH", prefix)
        prepend(env, "CPATH", os.path.join(prefix, "include"))
        prepend(env, "LIBRARY_PATH", os.path.join(prefix, "lib"))
        prepend(env, "LD_LIBRARY_PATH", os.path.join(prefix, "lib"))
    return env


def plain_environment(deps, scratch):
    """The caller's environment, and the wheels of tools/gpu_pack for a Python that lacks them."""
    env = dict(os.environ)
    site = os.path.join(scratch, "site")
    wheels = glob.glob(os.path.join(deps, "wheels", "*.whl"))
    if wheels and not os.path.isdir(site):
        for wheel in wheels:  # pure Python: unpacked is installed
            with zipfile.ZipFile(wheel) as z:
                z.extractall(site)
    if os.path.isdir(site):  # after what the machine has
        env["PYTHONPATH"] = os.pathsep.join([p for p in (env.get("PYTHONPATH"), site) if p])
    return env


# ---- what there is ------------------------------------------------------------------------------

GPU_FIELDS = [
    "name",
    "driver_version",
    "compute_cap",
    "memory.total",
    "memory.used",
    "clocks.sm",
    "clocks.mem",
    "clocks.max.sm",
    "temperature.gpu",
    "power.draw",
    "power.limit",
    "persistence_mode",
    "utilization.gpu",
]


def gpu_state():
    """The first GPU as nvidia-smi sees it now, or None."""
    line = text_of(["nvidia-smi", "--query-gpu=" + ",".join(GPU_FIELDS), "--format=csv,noheader"])
    return dict(zip(GPU_FIELDS, [v.strip() for v in line.splitlines()[0].split(",")])) if line else None


def commit():
    """Of the checkout, with -dirty where it was changed; None where there is no repository."""
    return text_of(["git", "-C", ROOT, "describe", "--always", "--dirty", "--abbrev=12"]) or None


def release():
    try:
        with open("/etc/os-release") as f:
            return re.search(r'PRETTY_NAME="?([^"\n]*)', f.read()).group(1)
    except (OSError, AttributeError):
        return None


def versions(env):
    first = lambda command: (text_of(command, env) or "none").splitlines()[0]  # noqa: E731
    nvcc = re.search(r"release ([\d.]+)", text_of(["nvcc", "--version"], env) or "")
    return {
        "nvcc": nvcc.group(1) if nvcc else None,
        "cmake": first(["cmake", "--version"]),
        "gcc": first(["gcc", "--version"]),
        "ninja": first(["ninja", "--version"]),
        "python": platform.python_version(),
        "glibc": " ".join(platform.libc_ver()),
    }


def facts(env):
    return {
        "date": text_of(["date", "-u", "+%Y-%m-%dT%H:%M:%SZ"]),
        "commit": commit(),
        "system": release(),
        "kernel": platform.release(),
        "processors": os.cpu_count(),
        "versions": versions(env),
        "gpu": gpu_state(),
    }
