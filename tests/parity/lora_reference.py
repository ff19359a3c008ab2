"""A random WanTransformer3DModel as diffusers saves it, two as the experts of a pipeline, and inputs. lora_check.py loads our adapters
into them."""
import json
import pathlib
import shutil
import sys

import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import save_file

torch.manual_seed(0)
root = pathlib.Path(sys.argv[1])
shutil.rmtree(root, ignore_errors=True)


def random_model():
    model = WanTransformer3DModel(num_attention_heads=2, attention_head_dim=12, num_layers=2, ffn_dim=40, in_channels=4,
                                  out_channels=4, text_dim=16, freq_dim=32)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.05)
    return model


model = random_model()
model.save_pretrained(root / "transformer")
inputs = {"x": torch.randn(2, 4, 3, 6, 8), "sigma": torch.tensor([1.0, 0.8333]), "context": torch.randn(2, 512, 16)}
with torch.no_grad():
    inputs["output"] = model(inputs["x"], inputs["sigma"] * 1000.0, inputs["context"], return_dict=False)[0]
save_file(inputs, root / "reference.safetensors")
for part in ("transformer", "transformer_2"):
    random_model().save_pretrained(root / "two" / part)
(root / "two/model_index.json").write_text(json.dumps({"_class_name": "WanPipeline", "boundary_ratio": 0.875}))
