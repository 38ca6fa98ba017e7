"""T5 1.1 base on C4 (Raffel et al. 2020; Shazeer 2020): span corruption, Adafactor, no dropout, 2^16 steps of 128 rows.

C4 is read as `tfds build c4` leaves it; give `data.sources.0.path` where that is.
"""

from t5like.config import Config, Data, Eval, Objective, Optimizer, Source, Train, Vocabulary
from t5like.model.architectures import architecture

config = Config(
    model=architecture("t5_1_1_base"),
    data=Data(
        sources=(
            Source(
                kind="tfds",
                dataset="c4/en:3.1.0",
                validation="validation",
                name="c4",
            ),
        ),
        store="stores/c4_t5",
        vocabulary=Vocabulary(kind="unigram", size=32_000, sentinels=100, train_characters=100_000_000),
        objective=Objective(kind="span_corruption", density=0.15, mean_span=3.0),
        length=512,
    ),
    optimizer=Optimizer(name="adafactor", learning_rate=0.01, schedule="inverse_sqrt", hold=10_000),
    train=Train(directory="runs/t5_1_1_base", steps=65_536, batch=128, log_every=100, save_every=5000),
    eval=Eval(every=5000, rows=4096, batch=128),
)
