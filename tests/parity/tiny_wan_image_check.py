"""Loads the pipelines for image-to-video that sgmd-export wrote, and draws a video with each (see tiny_wan_image_parity_test.cc)."""
import pathlib
import sys

import torch
from diffusers import WanImageToVideoPipeline, WanTransformer3DModel
from PIL import Image
from safetensors.torch import load_file

root = pathlib.Path(sys.argv[1])
inputs = load_file(root / "inputs.safetensors")


def loads_whole(folder, part, clip):
    model, info = WanTransformer3DModel.from_pretrained(folder, subfolder=part, output_loading_info=True)
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        assert not info[key], (folder, key, info[key])
    assert model.config.in_channels == 36 and model.config.out_channels == 16
    assert (model.config.image_dim, model.config.added_kv_proj_dim) == ((20, 24) if clip else (None, None))


@torch.no_grad()
def draws_as_ours(model, clip):
    folder = root / "ours" / model
    for part in ("transformer",) if clip else ("transformer", "transformer_2"):
        loads_whole(folder, part, clip)
    pipe = WanImageToVideoPipeline.from_pretrained(folder, text_encoder=None, tokenizer=None)
    assert (pipe.image_encoder is not None) == clip and pipe.config.boundary_ratio == (None if clip else 0.9)
    pipe.set_progress_bar_config(disable=True)
    video = pipe(Image.open(root / "first.png"), prompt_embeds=inputs["context"][:1], latents=inputs["noise"][:1], height=32, width=48,
                 num_frames=5, num_inference_steps=4, guidance_scale=1.0, output_type="latent").frames
    ours = load_file(root / "ours" / f"{model}.safetensors")["latents"][:1]
    error = ((video - ours).abs().max() / ours.abs().max()).item()
    print(f"four steps of WanImageToVideoPipeline, {model}: {error:.3g}")
    assert error <= 1e-2, error  # diffusers' sigmas are up to 0.001 off and its timesteps are truncated to integers
    card = (folder / "README.md").read_text()
    assert "pipeline_tag: image-to-video" in card and "WanImageToVideoPipeline" in card


if __name__ == "__main__":
    draws_as_ours("wan22", clip=False)
    draws_as_ours("wan21", clip=True)
