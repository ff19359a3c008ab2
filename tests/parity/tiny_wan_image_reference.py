"""Whole pipelines for image-to-video, tiny and with random weights, and what diffusers' WanImageToVideoPipeline makes of them.

<out>/wan22/, <out>/wan21/    two experts without CLIP tokens (as Wan2.2-I2V-A14B), one transformer with them (as Wan2.1-I2V-14B):
  pipeline/               as save_pretrained writes it
  reference.safetensors   the sample after every step of each prompt, and the condition of the first frame
<out>/first.png           of another size than the videos; <out>/second.png
<out>/inputs.safetensors  noise, and the text embeddings "context" and "negative"
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


def transformer(**more):
    model = WanTransformer3DModel(patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=36, out_channels=16,
                                  text_dim=32, freq_dim=32, ffn_dim=48, num_layers=2, **more).eval()
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


def run(folder, parts, images, inputs):
    root = folder / "pipeline"
    context, negative = inputs["context"], inputs["negative"]
    vae = AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2).eval()
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
             guidance_scale=GUIDANCE, height=32, width=48, num_frames=5, output_type="latent", callback_on_step_end=remember)
        samples.append(steps)
    tensors = {f"x_{step}": torch.cat([steps[step] for steps in samples]) for step in range(STEPS + 1)}
    pixels = pipe.video_processor.preprocess(images[0], height=32, width=48)
    tensors["condition"] = pipe.prepare_latents(pixels, 1, 16, 32, 48, 5, torch.float32, "cpu", None, steps[0])[1]
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
    shutil.copytree(out / "wan22/pipeline", out / "wan21/pipeline")
    inputs = {"noise": torch.randn(2, 16, 2, 4, 6), "context": context, "negative": negative}
    save_file(inputs, out / "inputs.safetensors")
    run(out / "wan22", experts(), images, inputs)
    run(out / "wan21", clip_parts(), images, inputs)


if __name__ == "__main__":
    root = pathlib.Path(sys.argv[1])
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    main(root)
