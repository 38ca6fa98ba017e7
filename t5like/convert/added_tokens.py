"""SentencePiece models to which tokens were added behind T5's sentinels, as the older tokenizers of transformers kept
them: in spiece.model and added_tokens.json.

Added tokens are text, found also in documents, which a SentencePiece model cannot say: so the two become the
tokenizer.json that transformers 5 makes of them. There added tokens are looked for in normalised text, so that a line
feed, which T5's normaliser takes for a space, stands for every space.
"""

from collections.abc import Collection, Mapping
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

from t5like.convert.sentencepiece_model import describe
from t5like.data.vocabulary.hugging_face import HuggingFace
from t5like.data.vocabulary.pieces import SENTINEL, SPACE, SentencePiece


def with_added_tokens(
    pieces: SentencePiece, added: Mapping[int, str], sentinels: int, special: Collection[str]
) -> HuggingFace | None:
    """The pieces, `sentinels` behind them unless these are among the added tokens, and those, each at its id.

    `special` are added tokens that are no text. None for a model that T5's class cannot hold, or for ids with gaps.
    """
    told = describe(pieces.serialized)
    if told.algorithm != "unigram" or told.byte_fallback:
        return None
    beyond = {token: name for token, name in added.items() if token >= pieces.size}
    if not any(map(SENTINEL.fullmatch, beyond.values())):
        beyond |= {pieces.size + sentinels - 1 - n: f"<extra_id_{n}>" for n in range(sentinels)}
    if sorted(beyond) != [*range(pieces.size, pieces.size + len(beyond))]:
        return None
    names = [pieces.name(token) for token in range(pieces.size)]
    scored = list(zip(names, told.scores, strict=True))
    tokenizer = tokenizers.Tokenizer(models.Unigram(scored, pieces.own_control.unk))
    if told.charsmap:
        tokenizer.normalizer = normalizers.Precompiled(told.charsmap)
    spaces: dict[str, Any] = dict(replacement=SPACE, prepend_scheme="always", split=True)
    steps = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(**spaces)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.Metaspace(**spaces)
    end = pieces.own_control.eos
    tokenizer.post_processor = processors.TemplateProcessing(
        f"$A {names[end]}", f"$A {names[end]} $B {names[end]}", [(names[end], end)]
    )
    control = [names[token] for token in sorted({n for n in pieces.own_control if n is not None})]
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in control])
    for _, name in sorted(beyond.items()):
        if name in special or SENTINEL.fullmatch(name):
            tokenizer.add_special_tokens([AddedToken(name, normalized=False)])
        else:
            tokenizer.add_tokens([AddedToken(name, normalized=True)])
    return HuggingFace(tokenizer.to_str().encode(), called=pieces.roles)
