"""A whole Wan pipeline, tiny and with random weights, as a Diffusers folder; and what diffusers' WanPipeline makes of it.

<out>/pipeline/      model_index.json, transformer/, vae/, text_encoder/, tokenizer/spiece.model, scheduler/
<out>/inputs.safetensors      noise, and the text embeddings "context" and "negative"
<out>/reference.safetensors   the sample after every step, sigmas, timesteps, and the decoded frames
"""
import io
import sys
from pathlib import Path

import sentencepiece
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from safetensors.torch import save_file
from transformers import UMT5Config, UMT5EncoderModel

PROMPTS = ["a red ball bounces slowly", "a cat walks on the wall"]  # as in tiny_wan_parity_test.cc
NEGATIVE = "blurred, static, low quality"
STEPS, GUIDANCE, ROWS = 6, 5.0, 512

out = Path(sys.argv[1])
root = out / "pipeline"
(root / "tokenizer").mkdir(parents=True, exist_ok=True)
torch.manual_seed(1)


def train_tokenizer():
    sentences = PROMPTS + [NEGATIVE] + [
        f"a {colour} {thing} {verb} {manner}, {where}."
        for colour in ("red", "blue", "green", "white") for thing in ("ball", "cat", "dog", "bird")
        for verb in ("bounces", "walks", "runs", "sleeps") for manner in ("slowly", "fast", "quietly")
        for where in ("on the wall", "in the rain", "under a tree")]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_writer=model, vocab_size=90, model_type="unigram", character_coverage=1.0,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, hard_vocab_limit=False, minloglevel=2)
    (root / "tokenizer" / "spiece.model").write_bytes(model.getvalue())
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def encode(tokenizer, encoder, text):
    ids = torch.tensor([tokenizer.encode(text) + [tokenizer.eos_id()]])
    rows = encoder(ids, torch.ones_like(ids)).last_hidden_state[0]
    return torch.cat([rows, rows.new_zeros(ROWS - len(rows), rows.shape[1])])


@torch.no_grad()
def main():
    tokenizer = train_tokenizer()
    encoder = UMT5EncoderModel(UMT5Config(
        vocab_size=tokenizer.vocab_size(), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu",
        pad_token_id=0, eos_token_id=1)).eval()
    encoder.save_pretrained(root / "text_encoder")
    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=16, out_channels=16, text_dim=32,
        freq_dim=32, ffn_dim=48, num_layers=2, cross_attn_norm=True, qk_norm="rms_norm_across_heads").eval()
    vae = AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2).eval()
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    pipe = WanPipeline(tokenizer=None, text_encoder=None, vae=vae, scheduler=scheduler, transformer=transformer)
    pipe.save_pretrained(root)
    pipe.set_progress_bar_config(disable=True)

    context = torch.stack([encode(tokenizer, encoder, text) for text in PROMPTS])
    negative = encode(tokenizer, encoder, NEGATIVE).expand_as(context).contiguous()
    noise = torch.randn(2, 16, 2, 4, 6)
    save_file({"noise": noise, "context": context, "negative": negative}, out / "inputs.safetensors")

    samples = [noise]

    def remember(_pipe, _step, _timestep, tensors):
        samples.append(tensors["latents"].clone())
        return tensors

    frames = pipe(prompt_embeds=context, negative_prompt_embeds=negative, latents=noise, num_inference_steps=STEPS,
                  guidance_scale=GUIDANCE, height=32, width=48, num_frames=5, output_type="pt", callback_on_step_end=remember).frames
    save_file({**{f"x_{i}": x for i, x in enumerate(samples)}, "sigmas": scheduler.sigmas, "timesteps": scheduler.timesteps,
               "frames": frames.float().contiguous()}, out / "reference.safetensors")


main()
