"""A small random CLIPVisionModel as transformers saves it, with what it and Pillow make of pictures.

<out>/image_encoder/           the model, of 3 layers and pictures of 28 pixels
<out>/<picture>.png            pictures of several sizes
<out>/reference.safetensors    <picture>.pixels, .hidden (the states before the last layer); <picture>.lanczos, .bicubic and
                               .enlarged, uint8 [H, W, 3]: resized by Pillow
"""
import pathlib
import shutil
import sys

import numpy
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

SIZES = {"wide": (61, 40), "tall": (33, 90), "square": (28, 28), "large": (300, 211), "tiny": (9, 7)}  # width, height


def draw(width, height, seed):
    """Noise over slopes: every filter has something to do."""
    noise = numpy.random.default_rng(seed).integers(0, 256, (height, width, 3))
    slope = numpy.linspace(0, 255, width)[None, :, None] * numpy.ones((height, 1, 3))
    return Image.fromarray((0.5 * noise + 0.5 * slope).astype(numpy.uint8))


def as_tensor(image):
    return torch.from_numpy(numpy.asarray(image).copy())


@torch.no_grad()
def main(out):
    torch.manual_seed(3)
    model = CLIPVisionModel(CLIPVisionConfig(hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=4, image_size=28,
                                             patch_size=14, hidden_act="gelu")).eval()
    for name, p in model.named_parameters():
        p.copy_(1 + 0.2 * torch.randn_like(p) if "norm" in name and name.endswith("weight") else 0.2 * torch.randn_like(p))
    model.save_pretrained(out / "image_encoder")
    processor = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    tensors = {}
    for seed, (name, size) in enumerate(SIZES.items()):
        image = draw(*size, seed)
        image.save(out / f"{name}.png")
        pixels = processor(images=image, return_tensors="pt").pixel_values
        tensors |= {f"{name}.pixels": pixels, f"{name}.hidden": model(pixels, output_hidden_states=True).hidden_states[-2][0],
                    f"{name}.lanczos": as_tensor(image.resize((48, 32), Image.Resampling.LANCZOS)),
                    f"{name}.bicubic": as_tensor(image.resize((31, 45), Image.Resampling.BICUBIC)),
                    f"{name}.enlarged": as_tensor(image.resize((320, 240), Image.Resampling.LANCZOS))}
    save_file({key: t.contiguous() for key, t in tensors.items()}, out / "reference.safetensors")


if __name__ == "__main__":
    root = pathlib.Path(sys.argv[1])
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    main(root)
