"""Loads adapters that WriteLora wrote (see lora_parity_test.cc) as users of diffusers do, and compares with ours merged."""
import pathlib
import sys

import torch
from diffusers import UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_wan_lora_to_diffusers
from safetensors.torch import load_file

root = pathlib.Path(sys.argv[1])
ours = root / "ours"
reference, results = load_file(root / "reference.safetensors"), load_file(ours / "results.safetensors")
results |= load_file(ours / "exported_results.safetensors")  # of the program's merged export


def pipeline():
    model = WanTransformer3DModel.from_pretrained(root, subfolder="transformer")
    return WanPipeline(tokenizer=None, text_encoder=None, vae=None, scheduler=UniPCMultistepScheduler(), transformer=model)


@torch.no_grad()
def forward(model):
    return model(reference["x"], reference["sigma"] * 1000.0, reference["context"], return_dict=False)[0]


def close(what, theirs, mine):
    error = ((theirs - mine).abs().max() / mine.abs().max()).item()
    print(f"{what}: {error:.3g}")
    assert error <= 1e-5, f"{what}: relative error {error}"


def same_weights(what, injected, adapters):
    """Every adapter of the file is in the model, every injected one is from the file."""
    loaded = {name.replace(".default_0", ""): p for name, p in injected.named_parameters() if ".lora_" in name}
    assert loaded.keys() == adapters.keys(), (what, sorted(loaded.keys() ^ adapters.keys())[:4])
    assert all(torch.equal(p, adapters[name]) for name, p in loaded.items()), what


for name in ("lora", "two_targets", "exported"):
    file = ours / f"{name}.safetensors"
    converted = _convert_non_diffusers_wan_lora_to_diffusers(load_file(file))  # raises on a key it does not know
    adapters = {key.removeprefix("transformer."): value for key, value in converted.items()}
    assert len(adapters) == len(load_file(file))

    pipe = pipeline()
    close("base", forward(pipe.transformer), reference["output"])
    pipe.load_lora_weights(str(ours), weight_name=file.name)
    same_weights(name, pipe.transformer, adapters)
    close(f"{name}: load_lora_weights", forward(pipe.transformer), results[name])
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    close(f"{name}: fuse_lora", forward(pipe.transformer), results[name])

    model = WanTransformer3DModel.from_pretrained(root, subfolder="transformer")
    model.load_lora_adapter(adapters, prefix=None)
    close(f"{name}: load_lora_adapter", forward(model), results[name])

merged = WanTransformer3DModel.from_pretrained(ours / "merged", subfolder="transformer")
close("merged by sgmd-export", forward(merged), results["exported"])
