"""A T5 1.1 base that learns UL2's mixture of seven denoisers (Tay et al. 2022), with SwiGLU as in UL2 20B.

C4 is read as `tfds build c4` leaves it; give `data.sources.0.path` where that is.
"""

from t5like.config import UL2, Config, Data, Eval, Objective, Optimizer, Source, Train, Vocabulary
from t5like.model.architectures import architecture

config = Config(
    model=architecture("t5_1_1_base", activation="silu"),
    data=Data(
        sources=(Source(kind="tfds", dataset="c4/en:3.1.0", validation="validation", name="c4"),),
        store="stores/c4_ul2",
        vocabulary=Vocabulary(
            kind="unigram",
            size=31_800,
            extra=("[R]", "[S]", "[X]"),
            sentinels=200,
            train_characters=100_000_000,
        ),
        objective=Objective(kind="ul2", denoisers=UL2),
        length=512,
    ),
    optimizer=Optimizer(name="adafactor", learning_rate=0.01, schedule="inverse_sqrt", hold=10_000),
    train=Train(directory="runs/ul2_base", steps=65_536, batch=128, log_every=100, save_every=5000),
    eval=Eval(every=5000, rows=4096, batch=128),
)
