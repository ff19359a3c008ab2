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


def pipeline(of=root, parts=("transformer",)):
    models = {part: WanTransformer3DModel.from_pretrained(of, subfolder=part) for part in parts}
    return WanPipeline(tokenizer=None, text_encoder=None, vae=None, scheduler=UniPCMultistepScheduler(), **models)


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

# A file of each expert, as the card beside them says.
both = pipeline(root / "two", ("transformer", "transformer_2"))
both.load_lora_weights(str(ours), weight_name="two_high_noise.safetensors")
both.load_lora_weights(str(ours), weight_name="two_low_noise.safetensors", load_into_transformer_2=True)
for part in ("transformer", "transformer_2"):
    merged = WanTransformer3DModel.from_pretrained(ours / "two_merged", subfolder=part)
    close(f"{part}: load_lora_weights", forward(getattr(both, part)), forward(merged))
    base = WanTransformer3DModel.from_pretrained(root / "two", subfolder=part)
    assert not torch.allclose(forward(base), forward(merged), rtol=1e-2, atol=1e-2), part
