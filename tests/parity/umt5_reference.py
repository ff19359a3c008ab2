"""Random umT5 encoders and what transformers makes of token ids: <folder>/<case>/{config.json, model*.safetensors, expected.safetensors}."""
import json
import pathlib
import shutil
import sys

import torch
from safetensors.torch import save_file
from transformers import UMT5Config, UMT5EncoderModel

WAN_NAMES = [("encoder.block.", "blocks."), ("layer.0.layer_norm", "norm1"), ("layer.0.SelfAttention.relative_attention_bias",
             "pos_embedding.embedding"), ("layer.0.SelfAttention", "attn"), ("layer.1.layer_norm", "norm2"),
             ("layer.1.DenseReluDense.wi_0", "ffn.gate.0"), ("layer.1.DenseReluDense.wi_1", "ffn.fc1"),
             ("layer.1.DenseReluDense.wo", "ffn.fc2"), ("encoder.final_layer_norm", "norm"), ("shared", "token_embedding")]


def wan_name(name):
    for theirs, wan in WAN_NAMES:
        name = name.replace(theirs, wan)
    return name


def make(config, seed):
    torch.manual_seed(seed)
    model = UMT5EncoderModel(config).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name:
                p.copy_(1 + 0.2 * torch.randn_like(p))
            elif "relative_attention_bias" in name or "shared" in name:
                p.copy_(torch.randn_like(p))
            elif ".q." in name:  # scores are not scaled: larger ones saturate the softmax, and transformers' own float32 is then 1e-4 off
                p.copy_(torch.randn_like(p) * (config.d_model * config.d_kv) ** -0.5)
            else:
                p.copy_(torch.randn_like(p) * p.shape[1] ** -0.5)
    return model


def expected(model, lengths):
    """Padded and masked, as the pipelines do; the rows of the real tokens are kept."""
    ids = torch.zeros(len(lengths), max(lengths) + 3, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, n in enumerate(lengths):
        ids[i, : n - 1] = torch.randint(2, model.config.vocab_size, (n - 1,))
        ids[i, n - 1] = 1
        mask[i, :n] = 1
    with torch.no_grad():
        rows = model(ids, mask).last_hidden_state
    out = {}
    for i, n in enumerate(lengths):
        out[f"ids.{i}"], out[f"rows.{i}"] = ids[i, :n].clone(), rows[i, :n].float().clone()
    return out


def write(folder, name, config, lengths, seed, dtype=torch.float32, names=None, shard="5GB"):
    path = folder / name
    path.mkdir(parents=True)
    model = make(config, seed).to(dtype)
    if names is None:
        model.save_pretrained(path, max_shard_size=shard)
    else:
        config.save_pretrained(path)
        state = {names(k): v.contiguous() for k, v in model.state_dict().items() if k != "encoder.embed_tokens.weight"}
        save_file(state, path / "encoder.safetensors", {"format": "pt"})
    save_file(expected(model.float(), lengths), path / "expected.safetensors.out")  # not a weights file of this folder


def buckets(folder):
    cases = []
    for count, distance in [(32, 128), (16, 64), (32, 100), (8, 20)]:
        config = UMT5Config(vocab_size=8, d_model=8, num_layers=1, num_heads=1, relative_attention_num_buckets=count,
                            relative_attention_max_distance=distance)
        attention = UMT5EncoderModel(config).encoder.block[0].layer[0].SelfAttention
        relative = torch.arange(-600, 601)
        cases.append({"buckets": count, "distance": distance, "first": -600,
                      "expected": attention._relative_position_bucket(relative).tolist()})
    (folder / "buckets.json").write_text(json.dumps(cases))


def main(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    small = dict(vocab_size=300, d_model=64, d_kv=16, d_ff=96, num_layers=3, num_heads=4)
    narrow = dict(vocab_size=120, d_model=24, d_kv=8, d_ff=40, num_layers=2, num_heads=5, relative_attention_num_buckets=16,
                  relative_attention_max_distance=40, layer_norm_epsilon=1e-5)
    deep = dict(vocab_size=1000, d_model=256, d_kv=64, d_ff=640, num_layers=8, num_heads=4)
    write(folder, "small", UMT5Config(**small), [1, 2, 9, 40, 200], 1)
    write(folder, "small_bf16_sharded", UMT5Config(**small), [3, 17], 1, torch.bfloat16, shard="60KB")
    write(folder, "small_bf16_wan", UMT5Config(**small), [3, 17], 1, torch.bfloat16, wan_name)
    write(folder, "narrow_fp16", UMT5Config(**narrow), [1, 30, 60], 2, torch.float16)
    write(folder, "deep", UMT5Config(**deep), [5, 64, 512], 3)
    buckets(folder)


main(pathlib.Path(sys.argv[1]))
