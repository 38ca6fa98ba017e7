"""A ByT5 base on bytes of several languages (Xue et al. 2022): no vocabulary, long spans, a deep encoder.

Each language is a source; add a line for every one.
"""

from t5like.config import Config, Data, Eval, Objective, Optimizer, Source, Train, Vocabulary
from t5like.model.architectures import architecture

config = Config(
    model=architecture("byt5_base"),
    data=Data(
        sources=(
            Source(kind="jsonl", path="corpus/en/*.jsonl.gz", name="en"),
            Source(kind="jsonl", path="corpus/zh/*.jsonl.gz", name="zh"),
        ),
        temperature=1 / 0.3,
        store="stores/multilingual_bytes",
        vocabulary=Vocabulary(kind="bytes", size=259, sentinels=11),
        objective=Objective(kind="span_corruption", density=0.15, mean_span=20.0),
        length=1024,
    ),
    optimizer=Optimizer(name="adafactor", learning_rate=0.01, schedule="inverse_sqrt", hold=10_000),
    train=Train(directory="runs/byt5_base", steps=1_000_000, batch=1024, log_every=100, save_every=5000),
    eval=Eval(every=10_000, rows=4096, batch=256),
)
