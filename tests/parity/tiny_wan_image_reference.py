"""Whole pipelines for image-to-video, tiny and with random weights, and what diffusers' WanImageToVideoPipeline makes of them.

<out>/<model>/            wan22: two experts without CLIP tokens (as Wan2.2-I2V-A14B); wan21: one transformer with them (as
                          Wan2.1-I2V-14B); wan22_5b: one that holds the first frame (as Wan2.2-TI2V-5B)
  pipeline/               as save_pretrained writes it
  inputs.safetensors      noise, and the text embeddings "context" and "negative"
  reference.safetensors   the sample after every step of each prompt, of wan22_5b without its first frame; latents of the first
                          picture, of wan22_5b alone, and its CLIP tokens
<out>/first.png           of another size than the videos; <out>/second.png
"""
import pathlib
import shutil
import sys

import numpy
import torch
from clip_vision_reference import draw
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanImageToVideoPipeline, WanTransformer3DModel
from safetensors.torch import save_file
from tiny_wan_reference import make_text_encoder
from transformers import CLIPVisionConfig, CLIPVisionModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

STEPS, GUIDANCE, BOUNDARY = 6, 3.5, 0.9  # as in tiny_wan_image_parity_test.cc


def transformer(in_channels=36, out_channels=16, **more):
    model = WanTransformer3DModel(patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=in_channels,
                                  out_channels=out_channels, text_dim=32, freq_dim=32, ffn_dim=48, num_layers=2, **more).eval()
    for p in model.parameters():
        p.add_(torch.randn_like(p) * 0.05)
    return model


def clip_parts():
    encoder = CLIPVisionModel(CLIPVisionConfig(hidden_size=20, intermediate_size=40, num_hidden_layers=3, num_attention_heads=2, image_size=28,
                                               patch_size=14, hidden_act="gelu")).eval()
    processor = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    return dict(image_encoder=encoder, image_processor=processor, transformer=transformer(image_dim=20, added_kv_proj_dim=24))


def experts():
    return dict(image_encoder=None, image_processor=None, transformer=transformer(), transformer_2=transformer(), boundary_ratio=BOUNDARY)


def holding_parts():
    return dict(image_encoder=None, image_processor=None, transformer=transformer(48, 48), expand_timesteps=True)


def make_vae(holds):
    if not holds:
        return AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2).eval()
    return AutoencoderKLWan(base_dim=4, decoder_base_dim=4, z_dim=48, is_residual=True, in_channels=12, out_channels=12, patch_size=2,
                            latents_mean=[0.01 * (i - 24) for i in range(48)], latents_std=[0.5 + 0.01 * i for i in range(48)],
                            scale_factor_spatial=16).eval()


def run(folder, parts, images, context, negative):
    root = folder / "pipeline"
    holds = parts.get("expand_timesteps", False)
    vae = make_vae(holds)
    inputs = {"noise": torch.randn(2, vae.config.z_dim, 2, 4, 6), "context": context, "negative": negative}
    save_file(inputs, folder / "inputs.safetensors")
    size = dict(height=4 * vae.config.scale_factor_spatial, width=6 * vae.config.scale_factor_spatial)
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0)
    pipe = WanImageToVideoPipeline(tokenizer=None, text_encoder=None, vae=vae, scheduler=scheduler, **parts)
    pipe.save_pretrained(root)
    pipe.set_progress_bar_config(disable=True)
    samples = []
    for i, image in enumerate(images):  # a picture for each prompt: the pipeline takes one a call
        steps = [inputs["noise"][i : i + 1]]

        def remember(_pipe, _step, _timestep, tensors):
            steps.append(tensors["latents"].clone())
            return tensors

        pipe(image, prompt_embeds=context[i : i + 1], negative_prompt_embeds=negative[i : i + 1], latents=steps[0], num_inference_steps=STEPS,
             guidance_scale=GUIDANCE, num_frames=5, **size, output_type="latent", callback_on_step_end=remember)
        samples.append(steps)
    tensors = {f"x_{step}": torch.cat([steps[step] for steps in samples])[:, :, int(holds):] for step in range(STEPS + 1)}
    pixels = pipe.video_processor.preprocess(images[0], **size)
    condition = pipe.prepare_latents(pixels, 1, vae.config.z_dim, *size.values(), 5, torch.float32, "cpu", None, steps[0])[1]
    tensors["image"] = condition[:, -vae.config.z_dim:]  # without the mask
    if parts["image_encoder"] is not None:
        tensors["clip"] = pipe.encode_image(images[0], "cpu")
    save_file({key: t.contiguous() for key, t in tensors.items()}, folder / "reference.safetensors")


@torch.no_grad()
def main(out):
    torch.manual_seed(2)
    images = [draw(70, 50, 1), draw(48, 32, 2)]
    for name, image in zip(("first", "second"), images):
        image.save(out / f"{name}.png")
    context, negative = make_text_encoder(out / "wan22/pipeline")
    models = {"wan22": experts, "wan21": clip_parts, "wan22_5b": holding_parts}
    for name in models.keys() - {"wan22"}:
        shutil.copytree(out / "wan22/pipeline", out / name / "pipeline")
    for name, parts in models.items():
        run(out / name, parts(), images, context, negative)


if __name__ == "__main__":
    root = pathlib.Path(sys.argv[1])
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    main(root)
