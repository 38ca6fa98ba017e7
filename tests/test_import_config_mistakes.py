"""A config.json that cannot be followed is refused in one sentence, before a number is read."""

import pytest
from damage import damaged, fields, file, refused

CONFIGS = {
    "no config": ("t5_1_1", file("config.json", None), "SOURCE has no config.json: a Hugging Face folder has one"),
    "no JSON": ("t5_1_1", file("config.json", '{"model_type": "t5",'), "SOURCE/config.json is not valid JSON: "),
    "no text": ("t5_1_1", file("config.json", b"\xff\xfe\x00"), "SOURCE/config.json is not valid JSON: "),
    "no object": ("t5_1_1", file("config.json", "[]"), "SOURCE/config.json must hold a JSON object."),
    "no type": ("t5_1_1", fields(model_type=...), "SOURCE/config.json: there is no model_type '' here; there are "),
    "no such type": (
        "t5_1_1",
        fields(model_type="whisper"),
        "SOURCE/config.json: there is no model_type 'whisper' here; there are bert, gpt2, llama, marian, mistral, ",
    ),
    "type misspelt": (
        "llama",
        fields(model_type="lama"),
        "SOURCE/config.json: there is no model_type 'lama' here; did you mean 'llama'?",
    ),
    "type of another type": (
        "t5_1_1",
        fields(model_type=["t5"]),
        "SOURCE/config.json: model_type=['t5'] must be of ",
    ),
    "classes as text": ("t5_1_1", fields(architectures="T5"), "SOURCE/config.json: architectures='T5' is not"),
    "a class as a number": ("bert_masked", fields(architectures=[1]), "SOURCE/config.json: architectures=[1] is not"),
    "size as text": ("t5_1_1", fields(d_model="16"), "SOURCE/config.json: d_model='16' must be a whole number above"),
    "size of zero": ("t5_1_1", fields(num_layers=0), "SOURCE/config.json: num_layers=0 must be a whole number above"),
    "size below": ("gpt2", fields(n_embd=-16), "SOURCE/config.json: n_embd=-16 must be a whole number above 0."),
    "size of a half": (
        "llama",
        fields(head_dim=8.5),
        "SOURCE/config.json: head_dim=8.5 must be a whole number above",
    ),
    "size as truth": (
        "bert_masked",
        fields(hidden_size=True),
        "SOURCE/config.json: hidden_size=True must be a whole",
    ),
    "no vocab_size": (
        "t5_1_1",
        fields(vocab_size=...),
        "The tensor 'shared.weight' has the shape (320, 16), but its config makes it (32128, 16): the two do not",
    ),
    "epsilon as text": (
        "t5_1_1",
        fields(layer_norm_epsilon="1"),
        "SOURCE/config.json: layer_norm_epsilon='1' must be",
    ),
    "epsilon below": ("t5_1_1", fields(layer_norm_epsilon=-1.0), "model.norm_epsilon=-1.0 must be above 0."),
    "dropout of one": ("t5_1_1", fields(dropout_rate=1.0), "model.dropout=1.0 must be at least 0 and below 1."),
    "tied as number": ("gpt2", fields(tie_word_embeddings=1), "SOURCE/config.json: tie_word_embeddings=1 must be of"),
    "heads that do not divide": (
        "gpt2",
        fields(n_head=3),
        "SOURCE/config.json: n_embd=16 is no multiple of n_head=3.",
    ),
    "rope as a list": (
        "llama",
        fields(rope_parameters=[1]),
        "SOURCE/config.json: rope_parameters=[1] must be of type",
    ),
    "unknown rope": (
        "llama",
        fields(rope_parameters={"rope_type": "yarn", "factor": 4.0}),
        "SOURCE/config.json: rope_type='yarn' is not supported, only default, linear, llama3.",
    ),
    "rope of no type": (
        "llama",
        fields(rope_parameters={"rope_type": ["yarn"]}),
        "SOURCE/config.json, rope_parameters: rope_type=['yarn'] must be of type str.",
    ),
    "layers that scale": (
        "gpt2",
        fields(scale_attn_by_inverse_layer_idx=True),
        "SOURCE/config.json: scale_attn_by_inverse_layer_idx=True is not supported, only False: the numbers would not",
    ),
    "relative positions": (
        "bert_masked",
        fields(position_embedding_type="relative_key"),
        "SOURCE/config.json: position_embedding_type='relative_key' is not supported, only 'absolute': the numbers",
    ),
    "two widths": (
        "marian",
        fields(decoder_ffn_dim=32),
        "SOURCE/config.json: decoder_ffn_dim=32 is not supported, only",
    ),
    "two embeddings": (
        "marian",
        fields(share_encoder_decoder_embeddings=False),
        "SOURCE/config.json: share_encoder_decoder_embeddings=False is not supported, only True",
    ),
    "unknown activation": (
        "gpt2",
        fields(activation_function="mish"),
        "SOURCE/config.json: activation_function='mish' ",
    ),
    "unknown gate": (
        "t5_1_1",
        fields(feed_forward_proj="gated-mish"),
        "SOURCE/config.json: feed_forward_proj='gated",
    ),
    "unknown class": (
        "llama",
        fields(architectures=["LlamaForTokenClassification"]),
        "SOURCE/config.json: architectures=['LlamaForTokenClassification'] is not supported, only",
    ),
    "unknown class of T5": (
        "t5_1_1",
        fields(architectures=["T5ForSequenceClassification"]),
        "SOURCE/config.json: architectures=['T5ForSequenceClassification'] is not supported, only",
    ),
    "unknown class of BERT": (
        "bert_masked",
        fields(architectures=["BertLMHeadModel"]),
        "SOURCE/config.json: architectures=['BertLMHeadModel'] is not supported, only",
    ),
}


@pytest.mark.parametrize("what", CONFIGS)
def test_a_config_that_cannot_be_followed_is_refused(tmp_path, what):
    name, harm, expected = CONFIGS[what]
    said = refused(damaged(tmp_path, name, harm))
    assert said.startswith(expected), said
