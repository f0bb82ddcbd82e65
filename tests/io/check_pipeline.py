"""check_pipeline.py OURS THEIRS: does diffusers load both pipeline folders as the same thing?"""

import sys

import torch
from diffusers import DDPMPipeline

ours, theirs = (DDPMPipeline.from_pretrained(path) for path in sys.argv[1:3])
a, b = ours.unet.state_dict(), theirs.unet.state_dict()
assert a.keys() == b.keys()
assert all(torch.equal(a[name], b[name]) for name in a)
drop = lambda config: {k: v for k, v in config.items() if not k.startswith("_")}
assert drop(ours.unet.config) == drop(theirs.unet.config)
assert drop(ours.scheduler.config) == drop(theirs.scheduler.config)
