"""Trajectories of diffusers' UniPC under fixed linear velocity models, for every setting that unipc_parity_test.cc names."""
import sys
from pathlib import Path

import torch
from diffusers import UniPCMultistepScheduler
from safetensors.torch import save_file

out = Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)


def run(name, steps, shift, dtype, **options):
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift, **options)
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(steps)
    noise = torch.randn(2, 4, 3, 5, 6, generator=generator, dtype=dtype)
    # v = A x + b + t c over the channels: linear, and different at every timestep.
    matrix = torch.randn(4, 4, generator=generator, dtype=dtype) * 0.3
    offset = torch.randn(4, generator=generator, dtype=dtype)
    slope = torch.randn(4, generator=generator, dtype=dtype) / 1000
    x, trajectory = noise, [noise]
    for t in scheduler.timesteps:
        velocity = torch.einsum("ij,bjfhw->bifhw", matrix, x) + (offset + t * slope).view(1, -1, 1, 1, 1)
        x = scheduler.step(velocity, t, x, return_dict=False)[0]
        trajectory.append(x)
    save_file({"matrix": matrix, "offset": offset, "slope": slope, "trajectory": torch.stack(trajectory),
               "sigmas": scheduler.sigmas, "timesteps": scheduler.timesteps.to(torch.int64)}, out / f"{name}.safetensors")


for shift in (3.0, 5.0):
    for steps in (1, 2, 3, 4, 10, 25, 50):
        for dtype, suffix in ((torch.float32, "f32"), (torch.float64, "f64")):
            run(f"shift{shift:g}_steps{steps}_{suffix}", steps, shift, dtype)
run("order1_uncorrected", 4, 5.0, torch.float32, solver_order=1, disable_corrector=[0, 1, 2])
run("uncorrected_start", 10, 5.0, torch.float32, disable_corrector=[0, 1, 2])
