"""Text in, as transformers, diffusers, ftfy and SentencePiece do it: a tiny tokenizer, cleaned prompts, and a text_encoder/ with the rows
that WanPipeline would give for prompts.txt."""
import html
import json
import pathlib
import shutil
import sys

import sentencepiece
import torch
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from safetensors.torch import save_file
from transformers import T5Tokenizer, UMT5Config, UMT5EncoderModel

CORPUS = """a red ball bounces slowly over the floor
a small blue ball bounces fast and leaves the frame
two cats playing on the grass, cinematic lighting, shallow depth of field
the camera moves around a wooden house beside the lake at sunset
a person walks through the rain, neon signs reflect in the puddles
色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量
一只猫在草地上玩耍，阳光明媚，电影感十足
镜头缓缓推进，湖边的木屋在夕阳下闪着金光
残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体"""

TEXTS = ["a red ball", "", " ", "  two   cats\tplaying\n on the grass ", "一只猫在草地上玩耍", "镜头，缓缓 推进。", "cat猫cat", "Ünïcödé ﬁ ①",
         "unknown: \U0001f600 ☃", "a\u00a0b\u3000c\u200bd", "the camera moves around a wooden house " * 12, "\u2581already\u2581marked"]

CLEANED = ["a red ball", "  two   cats\tplaying \n", "一只猫在草地上玩耍", "色调艳丽，过曝，静态：JPEG压缩！（a）", "“quoted” and ‘single’ it’s", "ﬁne ﬂow ﬀ",
           "Tom &amp; Jerry", "Tom &amp;amp; Jerry", "&lt;b&gt;bold&lt;/b&gt;", "<b>&quot;x&quot;</b>", "&ldquo;curly&rdquo;", "a&nbsp;b", "a\u00a0\u2003b\u3000c",
           "line\r\nline\u2028line", "bell\x07 and \x1f unit", "zero\u200bwidth", "1 < 2 & 3", "&copy 2024 &reg", "&#20013;&#x6587;", "\ufeffbom", "…—「」。、",
           "fish & chips; R&D", "&eacute;t&eacute;", "50&percnt"[:3], "\u02bcn ŉ Ǆ", "Ｆｕｌｌ　ｗｉｄｔｈ～"]

ESCAPED = ["&amp;", "&amp", "&ampersand", "&lt;&gt;&quot;&apos;&#39;", "&nbsp;|", "&copy;&copyright;", "&notit;", "&notin;", "&hellip;&mdash;&ndash;",
           "&#0;", "&#128;&#x80;", "&#x9f;", "&#xD800;", "&#x110000;", "&#99999999999999999999;", "&#1;x", "&#13;", "&#xfffe;", "&#65", "&#x41g", "&#;", "&#x;", "&",
           "&&amp;&", "& amp;", "&unknownname;", "&Alpha;&omega;", "&frac12;", "&amp;lt;", "&a", "&abcdefghijklmnopqrstuvwxyzabcdefghijklmnop;", "&lang;&rang;", "&LT;&QUOT",
           "&euro;&trade;&hearts;", "中&lt;文", "&yen&yuml&eth;", "&sup1;&sup;&supe;", "a&b;c"]


def train_tokenizer(folder):
    folder.mkdir(parents=True)
    corpus = folder / "corpus.txt"
    corpus.write_text(CORPUS)
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(folder / "spiece"), vocab_size=300, character_coverage=1.0, pad_id=0, eos_id=1, unk_id=2,
        bos_id=-1, hard_vocab_limit=False, normalization_rule_name="nmt_nfkc", minloglevel=2)
    return str(folder / "spiece.model")


def tokenized(model):
    processor = sentencepiece.SentencePieceProcessor(model_file=model)
    fast = T5Tokenizer.from_pretrained(pathlib.Path(model).parent)
    cases = []
    for text in TEXTS:
        for length in (512, 8, 1):
            ids = processor.encode(text)[: length - 1] + [1]
            theirs = fast(text, max_length=length, truncation=True).input_ids
            cases.append({"text": text, "max_length": length, "ids": ids, "transformers": theirs})
    return cases


def encode_prompts(folder, model):
    """As WanPipeline._get_t5_prompt_embeds does, without the zeros behind the real rows."""
    torch.manual_seed(7)
    config = UMT5Config(vocab_size=420, d_model=48, d_kv=12, d_ff=80, num_layers=3, num_heads=4)
    encoder = UMT5EncoderModel(config).eval()
    with torch.no_grad():
        for name, p in encoder.named_parameters():
            if "norm" in name:
                p.copy_(1 + 0.2 * torch.randn_like(p))
            elif "bias" in name or "shared" in name:
                p.copy_(torch.randn_like(p))
            else:
                p.copy_(torch.randn_like(p) * p.shape[1] ** -0.5 * (config.d_kv**-0.5 if ".q." in name else 1))
    encoder.save_pretrained(folder / "text_encoder")
    prompts = [line for line in CORPUS.splitlines()] + ["“Tom &amp; Jerry”,  animated", "a red ball bounces " * 10]
    (folder / "prompts.txt").write_text("\n".join(prompts) + "\n")
    tokenizer = T5Tokenizer.from_pretrained(folder / "tokenizer")
    rows = {}
    for i, prompt in enumerate(prompts):
        inputs = tokenizer([prompt_clean(prompt)], padding="max_length", max_length=64, truncation=True, return_attention_mask=True, return_tensors="pt")
        with torch.no_grad():
            states = encoder(inputs.input_ids, inputs.attention_mask).last_hidden_state
        rows[str(i)] = states[0, : int(inputs.attention_mask.sum())].clone()
    save_file(rows, folder / "expected_rows.safetensors")


def main(folder):
    shutil.rmtree(folder, ignore_errors=True)
    model = train_tokenizer(folder / "tokenizer")
    (folder / "tokens.json").write_text(json.dumps(tokenized(model)))
    (folder / "cleaned.json").write_text(json.dumps([[text, prompt_clean(text)] for text in CLEANED]))
    (folder / "unescaped.json").write_text(json.dumps([[text, html.unescape(text)] for text in ESCAPED]))
    encode_prompts(folder, model)


main(pathlib.Path(sys.argv[1]))
