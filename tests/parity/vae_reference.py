"""Small random AutoencoderKLWan models, plain (2.1) and residual (2.2), with what they encode and decode.

<out>/<form>/vae/              as save_pretrained writes it
<out>/<form>_original.safetensors   the same weights under original names, no config.json (plain and residual only)
<out>/<form>.safetensors       case<i>.pixels, .latents (normalised, of the pixels), .noise (latents), .decoded (of the noise)
<out>/<form>_tiled.safetensors      the same in tiles, and case<i>.tiling [tile, stride] in latent pixels
"""
import pathlib
import re
import sys

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanAttentionBlock
from safetensors.torch import save_file

MEAN_22, STD_22 = [0.01 * (i - 24) for i in range(48)], [0.5 + 0.01 * i for i in range(48)]
FORMS = {
    "plain": dict(base_dim=8, decoder_base_dim=12, z_dim=16),
    "residual": dict(base_dim=8, decoder_base_dim=12, z_dim=48, is_residual=True, in_channels=12, out_channels=12, patch_size=2,
                     latents_mean=MEAN_22, latents_std=STD_22, scale_factor_spatial=16),
    "other": dict(base_dim=6, z_dim=4, dim_mult=[1, 2], num_res_blocks=1, attn_scales=[0.5], temperal_downsample=[True],
                  latents_mean=[0.1, 0.2, 0.3, 0.4], latents_std=[1.0, 2.0, 0.5, 1.5], scale_factor_temporal=2, scale_factor_spatial=2),
}
# videos, frames, latent height, latent width
CASES = [(1, 1, 3, 5), (2, 5, 4, 2), (1, 13, 5, 3)]

# videos, frames, latent height, latent width, tile, stride: a last tile of full size, a last one shorter than what is shared, and more
# than half shared
TILED_CASES = [(1, 5, 7, 6, 4, 3), (2, 1, 9, 7, 6, 4), (1, 5, 7, 6, 5, 2)]

PARTS = {"norm1": "residual.0", "conv1": "residual.2", "norm2": "residual.3", "conv2": "residual.6", "conv_shortcut": "shortcut"}


def original_name(name: str, residual: bool) -> str:
    """The tables of the model's own repository, read from right to left."""
    if name.startswith(("quant_conv", "post_quant_conv")):
        return name.replace("post_quant_conv", "conv2").replace("quant_conv", "conv1")
    coder, rest = name.split(".", 1)
    for ours, theirs in (("conv_in.", "conv1."), ("norm_out.", "head.0."), ("conv_out.", "head.2."),
                         ("mid_block.resnets.0.", "middle.0."), ("mid_block.resnets.1.", "middle.2."),
                         ("mid_block.attentions.0.", "middle.1.")):
        if rest.startswith(ours):
            rest = theirs + rest[len(ours):]
            break
    else:
        stage = "downsamples" if coder == "encoder" else "upsamples"
        if residual:
            blocks = 2 if coder == "encoder" else 3
            rest = re.sub(r"^(down|up)_blocks\.(\d+)\.resnets\.", rf"{stage}.\2.{stage}.", rest)
            rest = re.sub(r"^(down|up)_blocks\.(\d+)\.(down|up)sampler\.", rf"{stage}.\2.{stage}.{blocks}.", rest)
        elif coder == "encoder":
            rest = rest.replace("down_blocks", stage)
        else:
            rest = re.sub(r"^up_blocks\.(\d+)\.resnets\.(\d+)", lambda m: f"{stage}.{4 * int(m[1]) + int(m[2])}", rest)
            rest = re.sub(r"^up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"{stage}.{4 * int(m[1]) + 3}", rest)
    # What is left are the parts of residual blocks. "conv1" is one only behind a block.
    if not rest.startswith(("conv1.", "head.")):
        rest = ".".join(PARTS.get(part, part) for part in rest.split("."))
    return f"{coder}.{rest}"


def randomise(vae: AutoencoderKLWan) -> None:
    for name, p in vae.named_parameters():
        if name.endswith("gamma"):
            p.copy_(1 + 0.3 * torch.randn_like(p))
        elif name.endswith("bias"):
            p.copy_(0.1 * torch.randn_like(p))
        else:
            p.copy_(torch.randn_like(p) / (p[0].numel() ** 0.5))
    vae.decoder.conv_out.weight.mul_(1.3)  # mostly inside [-1, 1], and sometimes clamped


def tile_by(vae: AutoencoderKLWan, tile: int, stride: int, pixels: int) -> None:
    """Latent pixels that are so many `pixels`: those of a frame, or of its patches, which diffusers cuts when it encodes."""
    vae.enable_tiling(tile * pixels, tile * pixels, stride * pixels, stride * pixels)


def tiled(form: str, vae: AutoencoderKLWan, mean: torch.Tensor, std: torch.Tensor, scale: int) -> dict[str, torch.Tensor]:
    data = {}
    for i, (videos, frames, height, width, tile, stride) in enumerate(TILED_CASES):
        pixels = torch.rand(videos, 3, frames, height * scale, width * scale) * 2 - 1
        tile_by(vae, tile, stride, scale // (vae.config.patch_size or 1))
        latents = (vae.encode(pixels).latent_dist.mode() - mean) / std
        noise = torch.randn_like(latents)
        tile_by(vae, tile, stride, scale)
        decoded = vae.decode(noise * std + mean).sample
        vae.disable_tiling()
        whole = vae.decode(noise * std + mean).sample
        difference = (decoded - whole).abs().max().item()
        print(f"{form} tiled case {i}: decoded {tuple(decoded.shape)}, largest difference to the whole {difference:.3f}")
        assert decoded.shape == whole.shape == pixels.shape and difference > 0.05
        data.update({f"case{i}.pixels": pixels, f"case{i}.latents": latents, f"case{i}.noise": noise, f"case{i}.decoded": decoded,
                     f"case{i}.tiling": torch.tensor([tile, stride])})
    return data


def main(out: pathlib.Path) -> None:
    # The block takes no cache, yet the encoder hands it one: with attention between its stages the reference does not run as it is.
    attend = WanAttentionBlock.forward
    WanAttentionBlock.forward = lambda self, x, feat_cache=None, feat_idx=None: attend(self, x)
    torch.manual_seed(0)
    for form, settings in FORMS.items():
        vae = AutoencoderKLWan(**settings).eval()
        randomise(vae)
        (out / form).mkdir(parents=True, exist_ok=True)
        vae.save_pretrained(out / form / "vae")
        if form != "other":
            renamed = {original_name(k, vae.config.is_residual): v for k, v in vae.state_dict().items()}
            assert len(renamed) == len(vae.state_dict())
            save_file(renamed, out / f"{form}_original.safetensors")
        mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1, 1)
        std = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1)
        scale = 2 ** (len(vae.config.dim_mult) - 1) * (vae.config.patch_size or 1)
        data = {}
        for i, (videos, frames, height, width) in enumerate(CASES):
            pixels = torch.rand(videos, 3, frames, height * scale, width * scale) * 2 - 1
            latents = (vae.encode(pixels).latent_dist.mode() - mean) / std
            noise = torch.randn_like(latents)
            decoded = vae.decode(noise * std + mean).sample
            clamped = (decoded.abs() == 1).float().mean().item()
            print(f"{form} case {i}: latents {tuple(latents.shape)} std {latents.std():.3f}, decoded {tuple(decoded.shape)} "
                  f"std {decoded.std():.3f}, clamped {clamped:.3f}")
            assert 0 < clamped < 0.5 and decoded.std() > 0.05
            data.update({f"case{i}.pixels": pixels, f"case{i}.latents": latents, f"case{i}.noise": noise, f"case{i}.decoded": decoded})
        save_file({k: v.contiguous() for k, v in data.items()}, out / f"{form}.safetensors")
        in_tiles = tiled(form, vae, mean, std, scale)
        save_file({k: v.contiguous() for k, v in in_tiles.items()}, out / f"{form}_tiled.safetensors")


if __name__ == "__main__":
    with torch.no_grad():
        main(pathlib.Path(sys.argv[1]))
