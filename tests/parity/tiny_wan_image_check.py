"""Loads the pipelines for image-to-video that sgmd-export wrote, and draws a video with each (see tiny_wan_image_parity_test.cc)."""
import pathlib
import sys

import torch
from diffusers import WanImageToVideoPipeline, WanTransformer3DModel
from PIL import Image
from safetensors.torch import load_file

root = pathlib.Path(sys.argv[1])


def loads_whole(folder, part, channels, clip):
    model, info = WanTransformer3DModel.from_pretrained(folder, subfolder=part, output_loading_info=True)
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        assert not info[key], (folder, key, info[key])
    assert (model.config.in_channels, model.config.out_channels) == channels
    assert (model.config.image_dim, model.config.added_kv_proj_dim) == ((20, 24) if clip else (None, None))


@torch.no_grad()
def draws_as_ours(model, clip=False, experts=False, holds=False):
    folder = root / "ours" / model
    inputs = load_file(root / model / "inputs.safetensors")
    for part in ("transformer", "transformer_2") if experts else ("transformer",):
        loads_whole(folder, part, (48, 48) if holds else (36, 16), clip)
    pipe = WanImageToVideoPipeline.from_pretrained(folder, text_encoder=None, tokenizer=None)
    assert (pipe.image_encoder is not None) == clip and pipe.config.boundary_ratio == (0.9 if experts else None)
    assert pipe.config.expand_timesteps == holds
    pipe.set_progress_bar_config(disable=True)
    video = pipe(Image.open(root / "first.png"), prompt_embeds=inputs["context"][:1], latents=inputs["noise"][:1],
                 height=64 if holds else 32, width=96 if holds else 48, num_frames=5, num_inference_steps=4, guidance_scale=1.0, output_type="latent").frames
    ours = load_file(root / "ours" / f"{model}.safetensors")["latents"][:1]
    error = ((video - ours).abs().max() / ours.abs().max()).item()
    print(f"four steps of WanImageToVideoPipeline, {model}: {error:.3g}")
    assert error <= 1e-2, error  # diffusers' sigmas are up to 0.001 off and its timesteps are truncated to integers
    card = (folder / "README.md").read_text()
    assert f"pipeline_tag: {'text' if holds else 'image'}-to-video" in card and "WanImageToVideoPipeline" in card


if __name__ == "__main__":
    draws_as_ours("wan22", experts=True)
    draws_as_ours("wan21", clip=True)
    draws_as_ours("wan22_5b", holds=True)
