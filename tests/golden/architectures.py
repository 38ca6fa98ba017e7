"""The originals of the golden folders: the class in transformers, its configuration and the vocabulary of each.

Every width is another number where the family allows it (16 embed, 4 heads, 6 per head, 28 mlp, two layers here and
three there), so that a transposed kernel or swapped stacks fail by shape or by value. All folders take 3 MB.

What transformers 5.24 does about tied embeddings:
- T5Config and UMT5Config take `tie_word_embeddings` out of the arguments, keep whether it was False as the negation
  of `scale_decoder_outputs`, and then set `tie_word_embeddings` to True. MT5Config drops it and never scales.
- So the constructor ties `lm_head` to `shared` whatever was asked, and config.json says true for untied models too.
- `from_pretrained` ties nothing when the file holds both tensors with different values; it only logs a warning.
  Hence an untied original is made by giving the head its own parameter (see `weights.untie`), and the only proof of
  it in a saved folder is that the file has `lm_head.weight`.
"""

from dataclasses import dataclass, field
from typing import Any

T5 = dict(
    vocab_size=320,
    d_model=16,
    num_heads=4,
    d_kv=6,
    d_ff=28,
    num_layers=2,
    num_decoder_layers=3,
    decoder_start_token_id=0,
)
UNTIED = T5 | dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False)
BERT = dict(
    vocab_size=224,
    hidden_size=16,
    num_attention_heads=4,
    num_hidden_layers=2,
    intermediate_size=28,
    max_position_embeddings=48,
)
LLAMA = dict(
    vocab_size=320,
    hidden_size=16,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    num_hidden_layers=3,
    intermediate_size=28,
    max_position_embeddings=128,
    bos_token_id=318,
    eos_token_id=319,
    tie_word_embeddings=False,
)
# The scaling of Llama 3.1 with an original length so short that, of the four wavelengths of a head of 8 (6, 167, 4443
# and 118,141 tokens), the first stays, the second is blended and two are multiplied by the factor.
LLAMA3_ROPE = dict(
    rope_type="llama3",
    rope_theta=500000.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=256,
)


@dataclass(frozen=True)
class Original:
    """One golden folder: `model` and `config` as transformers names them, `tokens` as `vocabularies` does."""

    name: str
    model: str
    config: dict[str, Any]
    tokens: str
    ids: tuple[int, int]  # ordinary ids, from the first to before the second
    untied: bool = False
    bfloat16: bool = False
    long: bool = False
    gradients: bool = False
    salt: int = 0  # of the seed: chosen so that some greedy continuation ends early and none is a close call
    heads: dict[str, Any] = field(default_factory=dict)  # what a head of BERT adds to the configuration


def _t5(name: str, config: dict[str, Any], model: str = "T5ForConditionalGeneration", **more: Any) -> Original:
    return Original(**dict(name=name, model=model, config=config, tokens="t5_plain", ids=(3, 300)) | more)


def _bert(name: str, model: str, **more: Any) -> Original:
    return Original(**dict(name=name, model=model, config=BERT, tokens="bert", ids=(5, 224)) | more)


ORIGINALS = [
    _t5("t5_1_1", UNTIED, salt=31, tokens="t5", untied=True, long=True, gradients=True),
    _t5("t5_1_0", T5, salt=91, tokens="t5_both"),
    _bert("bert_pretraining", "BertForPreTraining", gradients=True),
    Original(
        name="gpt2",
        model="GPT2LMHeadModel",
        config=dict(
            vocab_size=320,
            n_embd=16,
            n_head=4,
            n_layer=3,
            n_inner=28,
            n_positions=48,
            bos_token_id=319,
            eos_token_id=319,
        ),
        tokens="gpt2",
        ids=(0, 319),
        salt=13,
        gradients=True,
    ),
    Original("llama", "LlamaForCausalLM", LLAMA, "llama", (0, 318), untied=True, salt=33),
    Original(
        "llama3",
        "LlamaForCausalLM",
        LLAMA
        | dict(
            tie_word_embeddings=True, num_hidden_layers=2, rope_parameters=LLAMA3_ROPE, max_position_embeddings=2048
        ),
        "llama",
        (0, 318),
        salt=5,
    ),
    Original(
        "llama_linear",
        "LlamaForCausalLM",
        LLAMA
        | dict(
            vocab_size=400,
            bos_token_id=1,
            eos_token_id=2,
            num_hidden_layers=2,
            rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=4.0),
        ),
        "llama_pieces",
        (3, 400),
        untied=True,
        salt=6,
    ),
    _t5("t5_1_1_bfloat16", UNTIED, salt=31, untied=True, bfloat16=True),
    _t5("mt5", UNTIED, "MT5ForConditionalGeneration", salt=1, tokens="mt5", untied=True),
    _t5("umt5", UNTIED, "UMT5ForConditionalGeneration", salt=11, tokens="t5_both", untied=True, long=True),
    _t5(
        "byt5",
        UNTIED | dict(vocab_size=384, num_layers=3, num_decoder_layers=1),
        tokens="byt5",
        salt=2,
        ids=(3, 384),
        untied=True,
    ),
    _t5(
        "ul2",
        UNTIED | dict(feed_forward_proj="gated-silu", d_kv=8, num_layers=3, num_decoder_layers=2),
        untied=True,
        salt=4,
    ),
    _t5("t5_encoder", UNTIED | dict(num_layers=3), "T5EncoderModel"),
    _bert("bert_masked", "BertForMaskedLM"),
    _bert("bert_model", "BertModel"),
    _bert("bert_sequence", "BertForSequenceClassification", heads=dict(num_labels=3)),
    _bert("bert_regression", "BertForSequenceClassification", heads=dict(num_labels=1, problem_type="regression")),
    _bert("bert_tokens", "BertForTokenClassification", heads=dict(num_labels=5)),
    _bert("bert_spans", "BertForQuestionAnswering"),
    Original(
        name="marian",
        model="MarianMTModel",
        config=dict(
            vocab_size=320,
            d_model=16,
            encoder_layers=2,
            decoder_layers=3,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=28,
            decoder_ffn_dim=28,
            max_position_embeddings=48,
            activation_function="relu",
            scale_embedding=True,
            share_encoder_decoder_embeddings=True,
            pad_token_id=319,
            eos_token_id=0,
            decoder_start_token_id=319,
            forced_eos_token_id=None,
        ),
        tokens="marian",
        ids=(2, 319),
        salt=2,
    ),
]
