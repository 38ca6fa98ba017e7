"""GPT-2 small on web text (Radford et al. 2019): next tokens, rows of 1,024, half a million tokens a step.

C4 stands in for WebText, which was never published; give `data.sources.0.path` where `tfds build c4` has put it.
"""

from t5like.config import Config, Data, Eval, Objective, Optimizer, Source, Train, Vocabulary
from t5like.model.architectures import architecture

config = Config(
    model=architecture("gpt2_small", vocab=50_304),  # a multiple of 128 splits and multiplies better than 50,257
    data=Data(
        sources=(Source(kind="tfds", dataset="c4/en:3.1.0", validation="validation", name="c4"),),
        store="stores/c4_gpt2",
        vocabulary=Vocabulary(kind="byte_bpe", size=50_257, sentinels=0, train_characters=100_000_000),
        objective=Objective(kind="causal"),
        length=1024,
    ),
    optimizer=Optimizer(
        name="adamw",
        learning_rate=6e-4,
        schedule="cosine",
        warmup=2000,
        final=0.1,
        weight_decay=0.1,
        beta2=0.95,
        clip=1.0,
    ),
    train=Train(directory="runs/gpt2_small", steps=100_000, batch=512, log_every=100, save_every=5000),
    eval=Eval(every=5000, rows=4096, batch=512),
)
