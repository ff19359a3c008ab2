"""A Diffusers pipeline folder with small random parts, for sgmd-export to take and for export_check.py to load again.

<out>/base/ is the pipeline, <out>/two/ the same with two experts; <out>/reference.safetensors has x, sigma, context, noise for ours and the check to run on.
"""
import json
import pathlib
import shutil
import sys

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors.torch import save_file
from transformers import T5TokenizerFast, UMT5Config, UMT5EncoderModel

TEXT_LEN = 512


def write_transformer(folder):
    transformer = WanTransformer3DModel(num_attention_heads=2, attention_head_dim=24, num_layers=2, ffn_dim=80, in_channels=16,
                                        out_channels=16, text_dim=32, freq_dim=64)
    with torch.no_grad():
        for p in transformer.parameters():
            p.add_(torch.randn_like(p) * 0.05)
    transformer.save_pretrained(folder)


def write_base(base):
    write_transformer(base / "transformer")
    AutoencoderKLWan(base_dim=8, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1).save_pretrained(base / "vae")
    tokenizer = T5TokenizerFast()
    tokenizer.save_pretrained(base / "tokenizer")
    UMT5EncoderModel(UMT5Config(vocab_size=max(64, len(tokenizer)), d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2)).save_pretrained(base / "text_encoder")
    (base / "model_index.json").write_text(json.dumps({
        "_class_name": "WanPipeline", "boundary_ratio": None, "expand_timesteps": False,
        "scheduler": ["diffusers", "UniPCMultistepScheduler"], "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "T5TokenizerFast"], "transformer": ["diffusers", "WanTransformer3DModel"],
        "transformer_2": [None, None], "vae": ["diffusers", "AutoencoderKLWan"]}))


def write_two(base, two):
    shutil.copytree(base, two)
    write_transformer(two / "transformer_2")
    index = json.loads((base / "model_index.json").read_text())
    (two / "model_index.json").write_text(json.dumps(index | {"boundary_ratio": 0.875, "transformer_2": index["transformer"]}))


if __name__ == "__main__":
    torch.manual_seed(1)
    root = pathlib.Path(sys.argv[1])
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    write_base(root / "base")
    context = torch.zeros(1, TEXT_LEN, 32)
    context[:, :6] = torch.randn(1, 6, 32)
    save_file({"x": torch.randn(1, 16, 3, 4, 6), "sigma": torch.tensor([0.8333]), "context": context,
               "noise": torch.randn(1, 16, 3, 4, 6)}, root / "reference.safetensors")
    write_two(root / "base", root / "two")
