"""Random WanTransformer3DModels of several sizes as diffusers saves them, with inputs, outputs and gradients.

<out>/<case>/ is the model folder (one of them sharded), <out>/<case>.safetensors its inputs and reference results:
x, sigma, context (padded), upstream, output, grad.x, grad.<Diffusers name>; of models for image-to-video image, the
latents of the first frame, and clip, its CLIP tokens. Of a model that holds the first frame (as TI2V-5B) output and upstream are of the
frames behind it.
"""
import json
import pathlib
import shutil
import sys

import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import save_file

# name: (config, text_len, real text rows, latent [B, F, H, W], max_shard_size)
CASES = {
    "small": (dict(num_attention_heads=2, attention_head_dim=12, num_layers=2, ffn_dim=40, in_channels=4, out_channels=4,
                   text_dim=16, freq_dim=32), 7, 5, (2, 3, 6, 8), "10GB"),
    "real_head": (dict(num_attention_heads=2, attention_head_dim=128, num_layers=2, ffn_dim=96, in_channels=16, out_channels=16,
                       text_dim=24, freq_dim=256), 512, 11, (1, 5, 6, 10), "10GB"),
    "coarse_patches": (dict(num_attention_heads=4, attention_head_dim=32, num_layers=3, ffn_dim=200, in_channels=3, out_channels=3,
                            text_dim=20, freq_dim=64, patch_size=(1, 4, 4)), 12, 12, (3, 7, 8, 12), "10GB"),
    "deep_patches_sharded": (dict(num_attention_heads=3, attention_head_dim=16, num_layers=2, ffn_dim=64, in_channels=48,
                                  out_channels=48, text_dim=16, freq_dim=256, patch_size=(2, 2, 1)), 9, 1, (2, 6, 4, 5), "100KB"),
    "image": (dict(num_attention_heads=2, attention_head_dim=12, num_layers=2, ffn_dim=40, in_channels=36, out_channels=16,
                   text_dim=16, freq_dim=32), 7, 5, (2, 3, 6, 8), "10GB"),
    # diffusers takes the text to have 512 rows where there are CLIP tokens
    "image_clip": (dict(num_attention_heads=2, attention_head_dim=12, num_layers=2, ffn_dim=40, in_channels=36, out_channels=16,
                        text_dim=16, freq_dim=32, image_dim=20, added_kv_proj_dim=24), 512, 5, (2, 3, 6, 8), "10GB"),
    "image_clip_real_head": (dict(num_attention_heads=2, attention_head_dim=128, num_layers=1, ffn_dim=96, in_channels=36, out_channels=16,
                                  text_dim=24, freq_dim=256, image_dim=1280, added_kv_proj_dim=256), 512, 11, (1, 3, 6, 10), "10GB"),
    "held_image": (dict(num_attention_heads=2, attention_head_dim=12, num_layers=2, ffn_dim=40, in_channels=48, out_channels=48,
                        text_dim=16, freq_dim=32), 7, 5, (2, 3, 6, 8), "10GB"),
}
# The gradients of keys are differences of nearly equal numbers where most of 512 rows are alike: in float32 diffusers itself is 2e-4
# away from its float64.
IN_FLOAT64 = {"image_clip"}
CLIP_TOKENS, MASK_CHANNELS = 257, 4
HELD = {"held_image"}


def write_case(out, name, config, text_len, rows, latent, max_shard_size):
    torch.set_default_dtype(torch.float32)
    model = WanTransformer3DModel(**config)
    with torch.no_grad():
        for p in model.parameters():  # norms and biases too, so that none is at its neutral value
            p.add_(torch.randn_like(p) * 0.05)
    folder = out / name
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    saved = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**saved, "text_len": text_len}))

    if name in IN_FLOAT64:
        torch.set_default_dtype(torch.float64)
        model.to(torch.float64)
    batch, frames, height, width = latent
    x = torch.randn(batch, config["out_channels"], frames, height, width, requires_grad=True)
    sigma = torch.tensor([1.0, 0.8333, 0.02][:batch])
    context = torch.zeros(batch, text_len, config["text_dim"])
    context[:, :rows] = torch.randn(batch, rows, config["text_dim"])
    inputs, clip, more, timestep = x, None, {}, sigma * 1000.0
    if config["in_channels"] > config["out_channels"]:
        more["image"] = torch.randn(x.shape)
        mask = torch.zeros(batch, MASK_CHANNELS, frames, height, width)
        mask[:, :, 0] = 1
        inputs = torch.cat([x, mask, more["image"]], dim=1)
    if name in HELD:
        more["image"] = torch.randn(x[:, :, :1].shape)
        inputs = torch.cat([more["image"], x[:, :, 1:]], dim=2)
        times = timestep.view(-1, 1, 1, 1).repeat(1, frames, height // 2, width // 2)
        times[:, 0] = 0
        timestep = times.flatten(1)
    if config.get("image_dim"):
        clip = more["clip"] = torch.randn(batch, CLIP_TOKENS, config["image_dim"])
    output = model(inputs, timestep, context, clip, return_dict=False)[0]
    if name in HELD:
        output = output[:, :, 1:]
    upstream = torch.randn_like(output)
    output.backward(upstream)
    tensors = {"x": x.detach(), "sigma": sigma, "context": context, "output": output.detach(), "upstream": upstream, "grad.x": x.grad}
    tensors |= more
    tensors |= {f"grad.{key}": p.grad for key, p in model.named_parameters()}
    save_file({key: t.contiguous() for key, t in tensors.items()}, out / f"{name}.safetensors")


if __name__ == "__main__":
    torch.manual_seed(0)
    root = pathlib.Path(sys.argv[1])
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for case, settings in CASES.items():
        write_case(root, case, *settings)
