"""Loads what sgmd-export wrote in every way that other tools do, and compares with ours (see export_parity_test.cc)."""
import json
import pathlib
import re
import sys

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from safetensors import safe_open
from safetensors.torch import load_file

root = pathlib.Path(sys.argv[1])
ours = root / "ours"
reference, results = load_file(root / "reference.safetensors"), load_file(ours / "results.safetensors")
results |= load_file(ours / "experts_results.safetensors")  # by transformer of the pipeline of two


def close(what, theirs, mine, tolerance):
    error = ((theirs - mine).abs().max() / mine.abs().max()).item()
    print(f"{what}: {error:.3g}")
    assert error <= tolerance, f"{what}: relative error {error} > {tolerance}"


@torch.no_grad()
def forward(model):
    return model(reference["x"], reference["sigma"] * 1000.0, reference["context"], return_dict=False)[0]


def loads_whole(what, kind, dtype=torch.float32, part="transformer"):
    model, info = WanTransformer3DModel.from_pretrained(ours / what, subfolder=part, torch_dtype=dtype, output_loading_info=True)
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        assert not info[key], (what, key, info[key])
    close(f"from_pretrained {what}/{part}", forward(model.float()), results[kind], 1e-5)
    return model


def loads_single(path, kind):
    model = WanTransformer3DModel.from_single_file(str(path), config=str(root / "base"), subfolder="transformer")
    assert not any(p.is_meta for p in model.parameters())  # a missing key would leave one
    close(f"from_single_file {path.parent.name}/{path.name}", forward(model.float()), results[kind], 1e-5)
    return model


def same_weights(a, b):
    theirs = dict(b.named_parameters())
    assert all(torch.equal(p, theirs[name]) for name, p in a.named_parameters())


def base_weights_survive():
    base = WanTransformer3DModel.from_pretrained(root / "base", subfolder="transformer")
    same_weights(base, loads_whole("pipeline", "pipeline"))
    same_weights(base, loads_single(ours / "single/student.safetensors", "single"))
    rounded = WanTransformer3DModel.from_pretrained(root / "base", subfolder="transformer")
    with torch.no_grad():
        for p in rounded.parameters():
            p.copy_(p.bfloat16().float())
    same_weights(rounded, loads_whole("bf16", "bf16"))
    same_weights(rounded, loads_single(ours / "bf16_single/student.safetensors", "bf16"))


def scheduler_is_the_student():
    scheduler = UniPCMultistepScheduler.from_pretrained(ours / "pipeline", subfolder="scheduler")
    scheduler.set_timesteps(4)
    # the unshifted grid of diffusers ends at 0.001, not at 0
    torch.testing.assert_close(scheduler.sigmas, torch.tensor([1, 0.9375, 5 / 6, 0.625, 0]), atol=1.5e-3, rtol=0)
    assert scheduler.timesteps.tolist() == [999, 937, 833, 625], scheduler.timesteps


# By number of steps alone, as WanPipeline asks for them, or where that is not possible as the card says; and one of its steps.
def scheduler_gives_new_noise():
    folders = sorted(ours.glob("renoise-*"))
    assert len(folders) == 4, folders
    for folder in folders:
        sigmas = load_file(folder / "sigmas.safetensors")["sigmas"].float()
        scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder)
        if folder.name.startswith("renoise-given"):
            scheduler.set_timesteps(device=None, sigmas=sigmas[:-1].tolist())
        else:
            scheduler.set_timesteps(len(sigmas) - 1, device=None)
        torch.testing.assert_close(scheduler.sigmas, sigmas, atol=1e-5, rtol=0)
        torch.testing.assert_close(scheduler.timesteps, 1000 * sigmas[:-1], atol=1e-2, rtol=0)
        x, velocity = torch.randn(1, 3, 2, 2, 2), torch.randn(1, 3, 2, 2, 2)
        scheduler.set_begin_index(0)
        torch.manual_seed(1)
        found = scheduler.step(velocity, scheduler.timesteps[0], x, return_dict=False)[0]
        torch.manual_seed(1)
        noise = torch.randn_like(x)
        torch.testing.assert_close(found, (1 - sigmas[1]) * (x - sigmas[0] * velocity) + sigmas[1] * noise)


def pipeline_runs():
    settings = dict(height=32, width=48, num_frames=9, num_inference_steps=4, guidance_scale=1.0, output_type="latent",
                    latents=reference["noise"])
    pipe = WanPipeline.from_pretrained(ours / "pipeline")
    video = pipe(prompt_embeds=reference["context"], **settings).frames
    # diffusers' sigmas are up to 0.001 off and its timesteps are truncated to integers
    close("four steps of WanPipeline", video, results["four_steps"], 1e-2)
    pipe(prompt="a ball", **settings)  # tokenizer and text encoder of the base
    lone = WanPipeline.from_pretrained(ours / "bf16", vae=None, text_encoder=None, tokenizer=None)
    lone(prompt_embeds=reference["context"], **settings)
    assert not (ours / "bf16/vae").exists() and "Not in this folder" in (ours / "bf16/README.md").read_text()


def two_experts_are_whole():
    for part, file in (("transformer", "student_high_noise"), ("transformer_2", "student_low_noise")):
        base = WanTransformer3DModel.from_pretrained(root / "two", subfolder=part)
        same_weights(base, loads_whole("experts", part, part=part))
        same_weights(base, loads_single(ours / f"experts_single/{file}.safetensors", part))
    pipe = WanPipeline.from_pretrained(ours / "experts")
    assert pipe.config.boundary_ratio == 0.875 and pipe.transformer_2 is not None
    settings = dict(height=32, width=48, num_frames=9, num_inference_steps=4, guidance_scale=1.0, output_type="latent",
                    latents=reference["noise"], prompt_embeds=reference["context"])
    mine = load_file(ours / "experts_four_steps.safetensors")["latents"]
    close("four steps of two experts in WanPipeline", pipe(**settings).frames, mine, 1e-2)
    pipe.register_to_config(boundary_ratio=0.5)
    error = ((pipe(**settings).frames - mine).abs().max() / mine.abs().max()).item()
    assert error > 2e-2, f"the boundary makes no difference: {error}"


# The rules by which other tools read a single file: ComfyUI detects Wan by head.modulation and takes the sizes from tensors;
# LightX2V asks for original names, block by block.
def other_tools_find_their_keys():
    for path in ("single/student", "bf16_single/student", "experts_single/student_high_noise", "experts_single/student_low_noise"):
        with safe_open(ours / f"{path}.safetensors", "pt") as file:
            shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}
            assert file.metadata()["format"] == "pt"
        config = json.loads((ours / path).with_name("config.json").read_text())
        assert shapes["head.modulation"] == [1, 2, config["dim"]]
        assert shapes["patch_embedding.weight"][:2] == [config["dim"], config["in_dim"]]
        assert shapes["blocks.0.ffn.0.weight"][0] == config["ffn_dim"]
        blocks = {int(m[1]) for m in (re.match(r"blocks\.(\d+)\.", key) for key in shapes) if m}
        assert blocks == set(range(config["num_layers"]))
        expected = {f"{part}.{leaf}" for part in ("patch_embedding", "text_embedding.0", "text_embedding.2", "time_embedding.0", "time_embedding.2",
                                                  "time_projection.1", "head.head") for leaf in ("weight", "bias")} | {"head.modulation"}
        for n in blocks:
            expected |= {f"blocks.{n}.{name}" for name in ("modulation", "norm3.weight", "norm3.bias")}
            expected |= {f"blocks.{n}.{part}.{leaf}" for part in ("ffn.0", "ffn.2") for leaf in ("weight", "bias")}
            for attention in ("self_attn", "cross_attn"):
                expected |= {f"blocks.{n}.{attention}.{part}.{leaf}" for part in "qkvo" for leaf in ("weight", "bias")}
                expected |= {f"blocks.{n}.{attention}.{norm}.weight" for norm in ("norm_q", "norm_k")}
        assert set(shapes) == expected, set(shapes) ^ expected


if __name__ == "__main__":
    base_weights_survive()
    scheduler_is_the_student()
    scheduler_gives_new_noise()
    pipeline_runs()
    two_experts_are_whole()
    other_tools_find_their_keys()
