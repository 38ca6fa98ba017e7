"""The published sizes by name, as values of `Model`. Nothing here needs JAX, so presets and lists stay quick.

`architecture("t5_1_1_base", dropout=0.1)` is what a preset writes. Numbers are those of the papers and of the released
checkpoints: T5 (Raffel et al. 2020; 1.1 is the released code's), mT5 (Xue et al. 2021), umT5 (Chung et al. 2023), ByT5
(Xue et al. 2022), UL2 (Tay et al. 2022), BERT (Devlin et al. 2019), GPT-2 (Radford et al. 2019), Llama (Touvron et al.
2023, Grattafiori et al. 2024), TinyLlama (Zhang et al. 2024) and the Transformer of 2017 (Vaswani et al.).
"""

import dataclasses
from typing import Any

from t5like.config import Model
from t5like.errors import UserError, did_you_mean


def architecture(name: str, **changes: Any) -> Model:
    """The model of a published size, with some fields changed.

    Raises:
      UserError: no such name; the closest is named.
    """
    if name not in ARCHITECTURES:
        closest = did_you_mean(name, ARCHITECTURES, "`t5like architectures` lists them")
        raise UserError(f"There is no architecture {name!r}{closest}")
    return dataclasses.replace(ARCHITECTURES[name], **changes)


def parameter_count(model: Model) -> int:
    """The number of parameters, from the config alone."""
    m = model
    norm = m.embed * (1 if m.norm == "rms" else 2)
    attention = 2 * m.embed * m.kv * (m.heads + m.key_heads)
    attention += m.biased("qkv") * m.kv * (m.heads + 2 * m.key_heads) + m.biased("out") * m.embed
    wide = 2 if m.gated else 1
    mlp = (wide + 1) * m.embed * m.mlp + m.biased("mlp") * (wide * m.mlp + m.embed)
    relative = m.relative_buckets * m.heads if m.positions == "relative" else 0

    def stack(layers: int, attentions: int) -> int:
        layer = attentions * (attention + norm) + mlp + norm + (relative if m.relative_per_layer else 0)
        shared = (0 if m.relative_per_layer else relative) + (norm if m.norm_position == "pre" else 0)
        return layers * layer + (shared if layers else 0)

    stacks = stack(m.encoder_layers, 1) + stack(m.decoder_layers, 2 if m.encoder_layers else 1)
    learned = (m.max_positions or 0) if m.positions == "learned" else 0
    embeddings = m.embed * (m.vocab + learned + m.token_types) + (norm if m.embedding_norm else 0)
    return stacks + embeddings + _head_parameters(m, norm)


def _head_parameters(m: Model, norm: int) -> int:
    square = m.embed * m.embed + m.embed
    output = m.embed * m.vocab if m.predicts_pieces and not m.tied else 0
    output += (square + norm) * m.output_transform + m.vocab * m.output_bias
    return output + square * m.pooler + m.label_scores * (m.embed + m.head_bias)


def _t5(embed: int, heads: int, layers: int, mlp: int, kv: int = 64, **changes: Any) -> Model:
    """T5 1.1 and what came from it: gated GELU, an output of its own."""
    fields = dict(encoder_layers=layers, decoder_layers=layers, embed=embed, heads=heads, kv=kv, mlp=mlp, vocab=32_128)
    return Model(**{**fields, **changes})


def _t5_1_0(embed: int, heads: int, layers: int, mlp: int, kv: int = 64) -> Model:
    return _t5(embed, heads, layers, mlp, kv, activation="relu", gated=False, tied=True, scale_logits=True)


def _byt5(embed: int, heads: int, encoder: int, decoder: int, mlp: int) -> Model:
    return _t5(embed, heads, encoder, mlp, decoder_layers=decoder, vocab=384)


def _bert(embed: int, heads: int, layers: int, vocab: int) -> Model:
    return Model(
        encoder_layers=layers,
        embed=embed,
        heads=heads,
        kv=64,
        mlp=4 * embed,
        vocab=vocab,
        positions="learned",
        max_positions=512,
        norm="layer",
        norm_position="post",
        norm_epsilon=1e-12,
        embedding_norm=True,
        activation="gelu",
        gated=False,
        bias=True,
        tied=True,
        scale_attention=True,
        embedding_deviation=0.02,
        token_types=2,
        head="next_sentence",
        pooler=True,
        output_transform=True,
        output_bias=True,
    )


def _gpt2(embed: int, heads: int, layers: int) -> Model:
    return Model(
        decoder_layers=layers,
        embed=embed,
        heads=heads,
        kv=64,
        mlp=4 * embed,
        vocab=50_257,
        positions="learned",
        max_positions=1024,
        norm="layer",
        norm_epsilon=1e-5,
        activation="gelu_tanh",
        gated=False,
        bias=True,
        tied=True,
        scale_attention=True,
        embedding_deviation=0.02,
    )


def _llama(embed: int, heads: int, kv_heads: int, layers: int, mlp: int, vocab: int, length: int, **more: Any) -> Model:
    fields = dict(positions="rotary", activation="silu", scale_attention=True, norm_epsilon=1e-5)
    return Model(
        decoder_layers=layers,
        embed=embed,
        heads=heads,
        kv_heads=kv_heads,
        kv=embed // heads,
        mlp=mlp,
        vocab=vocab,
        max_positions=length,
        embedding_deviation=0.02,
        **{**fields, **more},
    )


def _transformer_2017(embed: int, heads: int, mlp: int) -> Model:
    return Model(
        encoder_layers=6,
        decoder_layers=6,
        embed=embed,
        heads=heads,
        kv=64,
        mlp=mlp,
        vocab=37_000,
        positions="sinusoidal",
        norm="layer",
        norm_position="post",
        activation="relu",
        gated=False,
        bias=True,
        tied=True,
        scale_attention=True,
        scale_embedding=True,
        embedding_deviation=embed**-0.5,
    )


_SIZES = {
    "small": (512, 6, 8, 1024),
    "base": (768, 12, 12, 2048),
    "large": (1024, 16, 24, 2816),
    "xl": (2048, 32, 24, 5120),
    "xxl": (4096, 64, 24, 10_240),
}
"""Width, heads, layers of each stack and feed-forward width of T5 1.1 and its multilingual forms."""
_LONG = dict(rotary_base=500_000.0, rotary_scaling="llama3", rotary_length=8192)

ARCHITECTURES: dict[str, Model] = {
    "t5_1_0_small": _t5_1_0(512, 8, 6, 2048),
    "t5_1_0_base": _t5_1_0(768, 12, 12, 3072),
    "t5_1_0_large": _t5_1_0(1024, 16, 24, 4096),
    "t5_1_0_3b": _t5_1_0(1024, 32, 24, 16_384, kv=128),
    "t5_1_0_11b": _t5_1_0(1024, 128, 24, 65_536, kv=128),
    **{f"t5_1_1_{name}": _t5(*sizes) for name, sizes in _SIZES.items()},
    **{f"mt5_{name}": _t5(*sizes, vocab=250_112) for name, sizes in _SIZES.items()},
    **{
        f"umt5_{name}": _t5(*_SIZES[name], vocab=256_384, relative_per_layer=True)
        for name in ("small", "base", "xl", "xxl")
    },
    "byt5_small": _byt5(1472, 6, 12, 4, 3584),
    "byt5_base": _byt5(1536, 12, 18, 6, 3968),
    "byt5_large": _byt5(1536, 16, 36, 12, 3840),
    "byt5_xl": _byt5(2560, 32, 36, 12, 6720),
    "byt5_xxl": _byt5(4672, 64, 36, 12, 12_352),
    "ul2_20b": _t5(4096, 16, 32, 16_384, kv=256, activation="silu"),
    "bert_base": _bert(768, 12, 12, 30_522),
    "bert_large": _bert(1024, 16, 24, 30_522),
    "bert_base_chinese": _bert(768, 12, 12, 21_128),
    "gpt2_small": _gpt2(768, 12, 12),
    "gpt2_medium": _gpt2(1024, 16, 24),
    "gpt2_large": _gpt2(1280, 20, 36),
    "gpt2_xl": _gpt2(1600, 25, 48),
    "llama_2_7b": _llama(4096, 32, 32, 32, 11_008, 32_000, 4096),
    "llama_3_8b": _llama(4096, 32, 8, 32, 14_336, 128_256, 8192, rotary_base=500_000.0),
    "llama_3_1_8b": _llama(4096, 32, 8, 32, 14_336, 128_256, 131_072, rotary_factor=8.0, **_LONG),
    "llama_3_2_1b": _llama(2048, 32, 8, 16, 8192, 128_256, 131_072, rotary_factor=32.0, tied=True, **_LONG),
    "tinyllama_1b": _llama(2048, 32, 4, 22, 5632, 32_000, 2048),
    "transformer_2017_base": _transformer_2017(512, 8, 2048),
    "transformer_2017_big": _transformer_2017(1024, 16, 4096),
}
"""Published sizes by name. Rows of the vocabulary are those of the released checkpoints."""
