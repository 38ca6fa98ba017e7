"""A T5 of 0.8 M parameters on Python's own library: the whole path in minutes on a laptop."""

from t5like.config import Config, Data, Eval, Group, Groups, Model, Objective, Optimizer, Train, Vocabulary

config = Config(
    model=Model(
        encoder_layers=2,
        decoder_layers=1,
        embed=128,
        heads=4,
        kv=32,
        mlp=256,
        vocab=2176,
        tied=True,
        embedding_deviation=0.1,
        dtype="float32",
    ),
    data=Data(
        store="stores/python_library",
        vocabulary=Vocabulary(size=2048, train_characters=1_000_000),
        # One span of two tokens in a row: with many, a decoder sees millions of tokens before it tells the sentinels
        # apart, and until then it answers with the commonest span.
        objective=Objective(kind="span_corruption", density=0.1, mean_span=2.0),
        length=20,
        held_out=0.05,
    ),
    # Low rates, and higher ones for what has to move first: with 0.006 and more, or with AdamW, this stays on the
    # plateau of a unigram model for as long as it lasts.
    optimizer=Optimizer(
        name="muon",
        learning_rate=0.002,
        schedule="linear",
        warmup=20,
        beta2=0.98,
        groups=Groups(embedding=Group(rate=3.0), relative=Group(rate=10.0, decay=False)),
    ),
    train=Train(directory="runs/tiny_t5", steps=1500, batch=96, save_every=500),
    eval=Eval(every=750, rows=2048, batch=256),
)
