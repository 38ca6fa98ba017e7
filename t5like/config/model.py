"""The architecture of a Transformer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from t5like.config.checks import require, require_fields, require_positive
from t5like.config.lora import Lora
from t5like.config.marks import applies_to

PIECES = ("vocabulary", "next_sentence")
POOLED = ("next_sentence", "sequence", "choice", "none")
LABELLED = ("sequence", "token")
"""Heads that predict tokens, that have one vector for each row or candidate, and that have `labels` scores."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A Transformer: with layers in both stacks a T5, in the encoder alone a BERT, in the decoder alone a GPT."""

    encoder_layers: int = 0
    """Layers of the encoder; 0 leaves it out."""
    decoder_layers: int = 0
    """Layers of the decoder; 0 leaves it out."""
    embed: int
    """Width of the residual stream."""
    heads: int
    """Attention heads."""
    kv_heads: int | None = None
    """Heads of keys and values, each shared by heads / kv_heads queries (grouped-query attention); None: as many as
    `heads`."""
    kv: int
    """Width of one head's queries, keys and values."""
    mlp: int
    """Hidden width of the feed-forward layer."""
    vocab: int
    """Rows of the embedding: at least the vocabulary's tokens, best a multiple of 128."""
    positions: Literal["relative", "learned", "sinusoidal", "rotary"] = "relative"
    """Position encoding: T5's relative bias, BERT's learned table, sinusoids added to the embedding, or rotary."""
    max_positions: int | None = None
    """Longest sequence, and the rows of a learned position table; None sets no limit."""
    relative_buckets: Annotated[int, applies_to("positions", "relative")] = 32
    """Buckets of the relative position bias."""
    relative_distance: Annotated[int, applies_to("positions", "relative")] = 128
    """Distance from which on all tokens share the last relative bucket."""
    relative_per_layer: Annotated[bool, applies_to("positions", "relative")] = False
    """Give each layer a relative bias of its own, as in umT5, instead of one that the stack shares."""
    rotary_base: Annotated[float, applies_to("positions", "rotary")] = 10_000.0
    """Base of the rotary frequencies, Hugging Face's rope_theta: the longest wavelength over 2 pi."""
    rotary_scaling: Annotated[Literal["none", "linear", "llama3"], applies_to("positions", "rotary")] = "none"
    """Rope scaling, for rows longer than those of pretraining: `linear` divides all frequencies by `rotary_factor`,
    `llama3` only the low ones, as in Llama 3.1."""
    rotary_factor: Annotated[float, applies_to("rotary_scaling", "linear", "llama3")] = 1.0
    """Factor of the rope scaling."""
    rotary_low: Annotated[float, applies_to("rotary_scaling", "llama3")] = 1.0
    """Hugging Face's low_freq_factor: wavelengths that fit fewer times into `rotary_length` are scaled in full."""
    rotary_high: Annotated[float, applies_to("rotary_scaling", "llama3")] = 4.0
    """Hugging Face's high_freq_factor: wavelengths that fit more often into `rotary_length` are not scaled."""
    rotary_length: Annotated[int, applies_to("rotary_scaling", "llama3")] = 8192
    """Tokens of a row of pretraining, Hugging Face's original_max_position_embeddings."""
    windows: tuple[int | None, ...] = ()
    """Attention windows of the layers, repeated in turn: self-attention sees the tokens less than so many positions
    away, None all of them; empty: every layer sees all."""
    norm: Literal["rms", "layer"] = "rms"
    """Normalisation: root mean square with a scale, or LayerNorm with scale and bias."""
    norm_position: Literal["pre", "post"] = "pre"
    """`pre`: x + f(norm(x)) and a norm after the last layer; `post`: norm(x + f(x)), as in 2017 and in BERT."""
    embedding_norm: bool = False
    """Normalise the embedded tokens, as in BERT."""
    norm_epsilon: float = 1e-6
    """Added to the variance inside the normalisation."""
    activation: Literal["relu", "gelu", "gelu_tanh", "silu"] = "gelu_tanh"
    """Non-linearity of the feed-forward layer; `gelu_tanh` is the approximation that T5 1.1 and GPT-2 use."""
    gated: bool = True
    """Gate a second projection with the activation (GEGLU, SwiGLU)."""
    bias: bool = False
    """Biases of all projections; the next three fields override it for some of them."""
    qkv_bias: bool | None = None
    """Biases of queries, keys and values, as in Qwen2; None: as `bias`."""
    out_bias: bool | None = None
    """Bias of attention's output projection; None: as `bias`."""
    mlp_bias: bool | None = None
    """Biases of the feed-forward layer; None: as `bias`."""
    tied: bool = False
    """Tie the output's weights to the embedding's."""
    scale_logits: bool = False
    """Multiply the last hidden states by embed^-0.5 (T5 1.0)."""
    scale_attention: bool = False
    """Divide attention scores by sqrt(kv); T5 leaves that to the initial query weights."""
    embedding_deviation: float = 1.0
    """Standard deviation of the embedding's initial values."""
    initializer_factor: float = 1.0
    """Factor of the initial deviation of kernels in attention and feed-forward layers, which is otherwise that of T5,
    1 / sqrt(fan in). With Muon, small models learn sooner with a tenth."""
    scale_embedding: bool = False
    """Multiply embedded tokens by embed^0.5 (Vaswani et al. 2017)."""
    token_types: Annotated[int, applies_to("family", "encoder")] = 0
    """Token types with an embedding each, such as the two segments of a BERT; 0: none."""
    head: Literal["vocabulary", "next_sentence", "sequence", "token", "span", "choice", "none"] = "vocabulary"
    """Output head: scores of the vocabulary for each token; these and BERT's next-sentence prediction; `labels` scores
    of each row (one label: a regression) or of each token; the start and end of a span; one score of each candidate
    of a row; or none, which leaves hidden states and a pooled embedding."""
    labels: Annotated[int, applies_to("head", *LABELLED)] = 0
    """Scores of a row or a token."""
    head_bias: Annotated[bool, applies_to("head", "next_sentence", *LABELLED, "span", "choice")] = True
    """Bias of the labels' scores; GPT-2's and Llama's have none."""
    problem_type: Annotated[
        Literal["single_label_classification", "multi_label_classification", "regression"] | None,
        applies_to("head", "sequence"),
    ] = None
    """A row has one label, any number of labels with a binary cross-entropy each, or `labels` numbers; None: a number
    if `labels` is 1, else one label."""
    pooling: Annotated[Literal["first", "mean", "last"], applies_to("head", *POOLED)] = "first"
    """Pooling of a row or a candidate: the output of its first or last token, or the mean of all."""
    pooler: Annotated[bool, applies_to("head", *POOLED)] = False
    """Projection and tanh after the pooling, as in BERT."""
    output_transform: Annotated[bool, applies_to("head", *PIECES)] = False
    """Projection, activation and norm before the scores of the vocabulary, as in BERT."""
    output_bias: Annotated[bool, applies_to("head", *PIECES)] = False
    """Bias of the scores of the vocabulary, as in BERT."""
    dropout: float = 0.0
    """Share of activations dropped while training, broadcast along the length as in T5."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Type of activations and products; parameters, softmax, logits and loss are float32."""
    attention: Literal["auto", "plain", "linear", "splash", "cudnn"] = "auto"
    """Implementation of attention. `plain`: all scores at once; `linear`: in blocks, with memory that grows with the
    length and not its square; `splash`: JAX's kernel for TPUs, without relative positions; `cudnn`: NVIDIA's kernel.
    `auto` takes the kernel of the devices that the step is compiled for where it can do what the model needs, else
    `linear` for rows longer than 2048 tokens and `plain` for shorter ones, on one CPU device row by row."""
    remat: Literal["none", "dots", "minimal", "full", "offload"] = "none"
    """Rematerialisation: what the backward pass computes again of a layer. `none`: nothing; `dots`: all but the
    products with weights; `minimal`: all but attention and the last products of attention and the feed-forward layer;
    `full`: all of it, from its input; `offload`: as `minimal`, with that and the layers' inputs kept in the host's
    memory."""
    lora: Lora = Lora()
    """Low-rank adapters."""

    def __post_init__(self) -> None:
        require_fields("model", self)
        require_positive("model", self, "embed", "heads", "kv", "mlp", "vocab")
        require_positive("model", self, "norm_epsilon", "embedding_deviation", "initializer_factor")
        require_positive("model", self, "rotary_base", "rotary_factor")
        require(
            self.encoder_layers >= 0 and self.decoder_layers >= 0 and self.encoder_layers + self.decoder_layers > 0,
            f"model.encoder_layers={self.encoder_layers} and model.decoder_layers={self.decoder_layers}: "
            "give at least one stack a layer.",
        )
        require(
            self.kv_heads is None or (self.kv_heads > 0 and self.heads % self.kv_heads == 0),
            f"model.kv_heads={self.kv_heads} must divide model.heads={self.heads}.",
        )
        self._check_head()
        unknown = [name for name in self.lora.targets if name not in self.matrices]
        require(
            not unknown,
            f"model.lora.targets names {unknown and unknown[0]!r}, but the model has {', '.join(self.matrices)}: "
            "choose among these.",
        )
        require(
            all(window is None or window > 0 for window in self.windows),
            f"model.windows={self.windows} must be None or at least 1 each.",
        )
        require(0 <= self.dropout < 1, f"model.dropout={self.dropout} must be at least 0 and below 1.")
        require(
            self.positions != "learned" or (self.max_positions or 0) > 0,
            "model.positions='learned' needs model.max_positions, the rows of its table.",
        )
        for kind, name in {"rotary": "kv", "sinusoidal": "embed"}.items():
            require(
                self.positions != kind or getattr(self, name) % 2 == 0,
                f"model.positions={kind!r} pairs dimensions: model.{name}={getattr(self, name)} must be even.",
            )
        require(
            self.positions != "relative" or 4 <= self.relative_buckets < self.relative_distance,
            f"model.relative_buckets={self.relative_buckets} must be at least 4 and below "
            f"model.relative_distance={self.relative_distance}.",
        )
        require(
            self.rotary_scaling != "llama3" or 0 < self.rotary_low < self.rotary_high,
            f"model.rotary_low={self.rotary_low} must lie above 0 and below model.rotary_high={self.rotary_high}.",
        )

    def _check_head(self) -> None:
        require(self.token_types >= 0, f"model.token_types={self.token_types} must not be negative.")
        require(
            self.head != "next_sentence" or (self.family == "encoder" and self.token_types == 2),
            "model.head='next_sentence' needs an encoder alone, with model.token_types=2.",
        )
        require(self.head not in LABELLED or self.labels > 0, f"model.head={self.head!r} needs model.labels above 0.")
        require(
            self.problem_type != "single_label_classification" or self.labels > 1,
            f"model.problem_type={self.problem_type!r} needs model.labels above 1.",
        )

    @property
    def matrices(self) -> tuple[str, ...]:
        """Names of the matrices of attention and feed-forward layers."""
        return ("query", "key", "value", "out", *(("gate",) if self.gated else ()), "up", "down")

    @property
    def drops(self) -> bool:
        """True if training draws masks of dropout."""
        return bool(self.dropout or self.lora.dropout)

    @property
    def predicts_pieces(self) -> bool:
        """True if it has scores of the vocabulary."""
        return self.head in PIECES

    @property
    def pools(self) -> bool:
        """True if it has one vector for each row, or for each candidate of a row."""
        return self.head in POOLED

    def biased(self, part: Literal["qkv", "out", "mlp"]) -> bool:
        """True if the projections of a part have biases: queries, keys and values, attention's output, or the
        feed-forward layer."""
        own: bool | None = getattr(self, f"{part}_bias")
        return self.bias if own is None else own

    @property
    def label_scores(self) -> int:
        """Scores that the head gives each row, token or candidate besides those of the vocabulary: of a span, start and
        end."""
        return {"next_sentence": 2, "span": 2, "choice": 1}.get(self.head, self.labels)

    @property
    def label_problem(
        self,
    ) -> Literal["single_label_classification", "multi_label_classification", "regression", "span"]:
        """The kind of the head's labels, where `problem_type` leaves it open too."""
        if self.head == "span":
            return "span"
        one = self.head == "sequence" and self.labels == 1
        return self.problem_type or ("regression" if one else "single_label_classification")

    @property
    def key_heads(self) -> int:
        """Heads of keys and values."""
        return self.heads if self.kv_heads is None else self.kv_heads

    @property
    def family(self) -> Literal["encoder-decoder", "encoder", "decoder"]:
        if self.encoder_layers and self.decoder_layers:
            return "encoder-decoder"
        return "encoder" if self.encoder_layers else "decoder"
