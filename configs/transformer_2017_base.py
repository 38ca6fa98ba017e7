"""The Transformer of 2017 (Vaswani et al.) on English to German: post-norm, sines, one embedding for all.

WMT 2014 is read as `tfds build wmt14_translate` leaves it; give `data.sources.0.path` where that is.
"""

from t5like.config import Config, Data, Eval, Objective, Optimizer, Source, Train, Vocabulary
from t5like.model.architectures import architecture

config = Config(
    model=architecture("transformer_2017_base", dropout=0.1),
    data=Data(
        sources=(
            Source(
                kind="tfds",
                dataset="wmt14_translate/de-en:1.0.0",
                validation="validation",
                fields=("en", "de"),
                name="wmt14",
            ),
        ),
        store="stores/wmt14",
        vocabulary=Vocabulary(kind="bpe", size=37_000, sentinels=0, train_characters=100_000_000),
        objective=Objective(kind="sequence_to_sequence"),
        length=256,
        target_length=256,
    ),
    # Rate and warm-up are the paper's: embed^-0.5 * min(step^-0.5, step * 4000^-1.5).
    optimizer=Optimizer(name="adamw", learning_rate=7e-4, schedule="inverse_sqrt", warmup=4000, hold=4000, beta2=0.98),
    train=Train(directory="runs/transformer_2017_base", steps=100_000, batch=128, log_every=100, save_every=5000),
    eval=Eval(every=5000, rows=3000, batch=120),
)
