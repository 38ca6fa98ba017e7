"""A Llama-like decoder of 1.1 billion parameters, TinyLlama's (Zhang et al. 2024): grouped queries, rotary positions.

C4 is read as `tfds build c4` leaves it; give `data.sources.0.path` where that is.
"""

from t5like.config import Config, Data, Eval, Objective, Optimizer, Source, Train, Vocabulary
from t5like.model.architectures import architecture

config = Config(
    model=architecture("tinyllama_1b", remat="dots"),
    data=Data(
        sources=(Source(kind="tfds", dataset="c4/en:3.1.0", validation="validation", name="c4"),),
        store="stores/c4_llama",
        vocabulary=Vocabulary(kind="bpe", size=32_000, sentinels=0, train_characters=100_000_000),
        objective=Objective(kind="causal"),
        length=2048,
    ),
    optimizer=Optimizer(
        name="adamw",
        learning_rate=4e-4,
        schedule="cosine",
        warmup=2000,
        final=0.1,
        weight_decay=0.1,
        beta2=0.95,
        clip=1.0,
    ),
    train=Train(directory="runs/llama_1b", steps=500_000, batch=1024, log_every=100, save_every=5000),
    eval=Eval(every=5000, rows=4096, batch=256),
)
