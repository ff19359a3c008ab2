"""A small WanTransformer3DModel in bfloat16, as from_pretrained(torch_dtype=torch.bfloat16) makes it: its parameters that stay in
float32, and its output. Small, because bfloat16 is slow on a CPU."""
import pathlib
import shutil
import sys

import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import save_file

torch.manual_seed(0)
root = pathlib.Path(sys.argv[1])
shutil.rmtree(root, ignore_errors=True)
model = WanTransformer3DModel(num_attention_heads=2, attention_head_dim=12, num_layers=2, ffn_dim=40, in_channels=4,
                              out_channels=4, text_dim=16, freq_dim=32)
with torch.no_grad():
    for p in model.parameters():
        p.add_(torch.randn_like(p) * 0.05)
model.save_pretrained(root / "transformer")
x, sigma, context = torch.randn(2, 4, 3, 6, 8), torch.tensor([1.0, 0.8333]), torch.randn(2, 512, 16)
half = WanTransformer3DModel.from_pretrained(root, subfolder="transformer", torch_dtype=torch.bfloat16)
with torch.no_grad():
    tensors = {"x": x, "sigma": sigma, "context": context,
               "output": model(x, sigma * 1000.0, context, return_dict=False)[0],
               "output_bf16": half(x.bfloat16(), sigma * 1000.0, context.bfloat16(), return_dict=False)[0].float()}
for name, p in half.named_parameters():
    tensors["wide." + name] = torch.tensor([p.dtype == torch.float32])
save_file(tensors, root / "reference.safetensors")
