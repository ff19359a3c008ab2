"""A whole Wan pipeline, tiny and with random weights, as a Diffusers folder, and one of two experts; and what diffusers' WanPipeline
makes of them.

<out>/pipeline/      model_index.json, transformer/, vae/, text_encoder/, tokenizer/spiece.model, scheduler/
<out>/inputs.safetensors      noise, and the text embeddings "context" and "negative"
<out>/reference.safetensors   the sample after every step, sigmas, timesteps, and the decoded frames
<out>/experts/, <out>/experts.safetensors      transformer_2/ beside the same transformer/; samples, sigmas and timesteps
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
STEPS, GUIDANCE, GUIDANCE_LOW, BOUNDARY, ROWS = 6, 5.0, 3.0, 0.875, 512


def train_tokenizer(root):
    (root / "tokenizer").mkdir(parents=True, exist_ok=True)
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


def random_transformer():
    return WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=16, out_channels=16, text_dim=32,
        freq_dim=32, ffn_dim=48, num_layers=2, cross_attn_norm=True, qk_norm="rms_norm_across_heads").eval()


def sample(pipe, inputs, **settings):
    """The pipeline's output, and the sample after every step, sigmas and timesteps by name."""
    samples = [inputs["noise"]]

    def remember(_pipe, _step, _timestep, tensors):
        samples.append(tensors["latents"].clone())
        return tensors

    pipe.set_progress_bar_config(disable=True)
    frames = pipe(prompt_embeds=inputs["context"], negative_prompt_embeds=inputs["negative"], latents=inputs["noise"],
                  num_inference_steps=STEPS, guidance_scale=GUIDANCE, height=32, width=48, num_frames=5,
                  callback_on_step_end=remember, **settings).frames
    named = {f"x_{i}": x for i, x in enumerate(samples)}
    return frames, named | {"sigmas": pipe.scheduler.sigmas, "timesteps": pipe.scheduler.timesteps}


def two_experts(pipe, inputs, out):
    experts = WanPipeline(tokenizer=None, text_encoder=None, vae=pipe.vae, scheduler=pipe.scheduler, transformer=pipe.transformer,
                          transformer_2=random_transformer(), boundary_ratio=BOUNDARY)
    experts.save_pretrained(out / "experts")
    _, tensors = sample(experts, inputs, guidance_scale_2=GUIDANCE_LOW, output_type="latent")
    high = int((tensors["timesteps"] >= 1000 * BOUNDARY).sum())
    assert 0 < high < STEPS, high  # both are used
    save_file(tensors, out / "experts.safetensors")


def make_text_encoder(root):
    """Writes text_encoder/ and tokenizer/; gives the embeddings of the prompts and of the negative one."""
    tokenizer = train_tokenizer(root)
    encoder = UMT5EncoderModel(UMT5Config(
        vocab_size=tokenizer.vocab_size(), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu",
        pad_token_id=0, eos_token_id=1)).eval()
    encoder.save_pretrained(root / "text_encoder")
    context = torch.stack([encode(tokenizer, encoder, text) for text in PROMPTS])
    return context, encode(tokenizer, encoder, NEGATIVE).expand_as(context).contiguous()


@torch.no_grad()
def main(out):
    torch.manual_seed(1)
    root = out / "pipeline"
    context, negative = make_text_encoder(root)
    transformer = random_transformer()
    vae = AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2).eval()
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    pipe = WanPipeline(tokenizer=None, text_encoder=None, vae=vae, scheduler=scheduler, transformer=transformer)
    pipe.save_pretrained(root)

    noise = torch.randn(2, 16, 2, 4, 6)
    inputs = {"noise": noise, "context": context, "negative": negative}
    save_file(inputs, out / "inputs.safetensors")
    frames, tensors = sample(pipe, inputs, output_type="pt")
    save_file(tensors | {"frames": frames.float().contiguous()}, out / "reference.safetensors")
    two_experts(pipe, inputs, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
