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
        initializer_factor=0.09,
        dtype="float32",
    ),
    data=Data(
        store="stores/python_library",
        vocabulary=Vocabulary(size=2048, train_characters=1_000_000),
        # Short rows with four spans of a token each: with many sentinels a decoder takes much longer to find the one
        # that it is asked for, and until then it answers with the commonest span.
        objective=Objective(kind="span_corruption", density=0.16, mean_span=1.0),
        length=24,
        held_out=0.05,
    ),
    # Low rates: single trials with 0.006 and more, or with AdamW, stayed on the plateau of a unigram model. Embeddings
    # and relative positions have to move first.
    optimizer=Optimizer(
        name="muon",
        learning_rate=0.002,
        schedule="linear",
        warmup=20,
        beta2=0.98,
        groups=Groups(embedding=Group(rate=3.0), relative=Group(rate=10.0, decay=False)),
    ),
    train=Train(directory="runs/tiny_t5", steps=1300, batch=80, save_every=650),
    eval=Eval(every=650, rows=2048, batch=256),
)
