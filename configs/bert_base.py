"""BERT base on Wikipedia (Devlin et al. 2019): masked tokens and next sentences, 10^6 steps of 256 rows of 512 tokens.

Wikipedia is read as `tfds build wikipedia` leaves it; give `data.sources.0.path` where that is.
"""

from t5like.config import Config, Data, Eval, Objective, Optimizer, Source, Train, Vocabulary
from t5like.model.architectures import architecture

config = Config(
    model=architecture("bert_base", dropout=0.1),
    data=Data(
        sources=(Source(kind="tfds", dataset="wikipedia/20230601.en", name="wikipedia"),),
        store="stores/wikipedia_bert",
        vocabulary=Vocabulary(
            kind="wordpiece",
            size=30_522,
            lowercase=True,
            sentinels=0,
            train_characters=100_000_000,
        ),
        objective=Objective(kind="next_sentence", density=0.15),
        length=512,
    ),
    optimizer=Optimizer(
        name="adamw", learning_rate=1e-4, schedule="linear", warmup=10_000, weight_decay=0.01, clip=1.0
    ),
    train=Train(directory="runs/bert_base", steps=1_000_000, batch=256, z_loss=0.0, log_every=100, save_every=10_000),
    eval=Eval(every=10_000, rows=4096, batch=256),
)
