"""variants.py - the ways in which PyTorch is run, all of them reported; the fastest is "PyTorch".

A variant is a name of words joined by dashes, in any order:

  bf16 | purebf16 | tf32 | fp32        autocast to bf16; bf16 weights with f32 master weights; products in TF32; f32
  eager | compile | reduce | max | maxng   torch.compile's modes: default, reduce-overhead, max-autotune,
                                       max-autotune-no-cudagraphs
  nchw | nhwc                          memory format (nhwc: channels_last)
  graph                                a CUDA graph by hand around the whole step
  clean | diffusers                    bench/pytorch/net.py, or UNet2DModel
  limit10                              cudnn.benchmark tries 10 plans, its default, instead of all
  tuned                                inductor's coordinate descent, epilogue fusion, shape padding,
                                       layout optimization, 1x1 convolutions as products
"""

PRECISION = ("bf16", "purebf16", "tf32", "fp32")
MODE = {
    "eager": None,
    "compile": "default",
    "reduce": "reduce-overhead",
    "max": "max-autotune",
    "maxng": "max-autotune-no-cudagraphs",
}
LAYOUT = ("nhwc", "nchw")
NET = ("clean", "diffusers")
FLAGS = ("graph", "limit10", "tuned")

# What `bench/compare` runs unless it is told otherwise, as far as its time goes: likely winners first.
TRAIN_CUDA = [
    "bf16-compile-nhwc-graph",
    "bf16-eager-nhwc-graph",
    "bf16-reduce-nhwc",
    "bf16-maxng-nhwc-graph",
    "bf16-eager-nhwc",
    "bf16-compile-nhwc",
    "purebf16-compile-nhwc-graph",
    "bf16-compile-nchw-graph",
    "bf16-compile-nhwc-graph-tuned",
    "bf16-compile-nhwc-graph-limit10",
    "bf16-eager-nchw",
    "bf16-eager-nhwc-diffusers",
    "bf16-compile-nhwc-graph-diffusers",
    "tf32-compile-nhwc-graph",
    "tf32-eager-nhwc",
    "fp32-compile-nhwc-graph",
    "bf16-max-nhwc",
]
SAMPLE_CUDA = [
    "purebf16-compile-nhwc-graph",
    "purebf16-eager-nhwc-graph",
    "purebf16-reduce-nhwc",
    "purebf16-maxng-nhwc-graph",
    "purebf16-eager-nhwc",
    "bf16-compile-nhwc-graph",
    "purebf16-compile-nchw-graph",
    "purebf16-compile-nhwc-graph-tuned",
    "purebf16-eager-nhwc-diffusers",
    "tf32-compile-nhwc-graph",
    "purebf16-max-nhwc",
]
TRAIN_CPU = SAMPLE_CPU = [  # what compiles for minutes comes last
    "fp32-eager-nhwc",
    "fp32-eager-nchw",
    "bf16-eager-nhwc",
    "fp32-eager-nchw-diffusers",
    "fp32-compile-nhwc",
    "fp32-compile-nchw",
    "bf16-compile-nhwc",
]


def parse(name):
    found = {"precision": "fp32", "mode": "eager", "layout": "nhwc", "net": "clean", "flags": set()}
    for word in name.split("-"):
        for key, words in (("precision", PRECISION), ("mode", MODE), ("layout", LAYOUT), ("net", NET)):
            if word in words:
                found[key] = word
                break
        else:
            if word not in FLAGS:
                raise SystemExit(
                    f"variant {name}: no word {word}; there are " + " ".join([*PRECISION, *MODE, *LAYOUT, *NET, *FLAGS])
                )
            found["flags"].add(word)
    return found


def defaults(mode, device):
    return {
        ("train", "cuda"): TRAIN_CUDA,
        ("sample", "cuda"): SAMPLE_CUDA,
        ("train", "cpu"): TRAIN_CPU,
        ("sample", "cpu"): SAMPLE_CPU,
    }[mode, device]
