"""A T5 1.1 of 1.3 M parameters on Python's own library: the whole path in minutes on a laptop."""

from t5like.config import Config, Data, Eval, Model, Objective, Optimizer, Train, Vocabulary

config = Config(
    model=Model(
        encoder_layers=2,
        decoder_layers=2,
        embed=128,
        heads=4,
        kv=32,
        mlp=256,
        vocab=2176,
        dtype="float32",
    ),
    data=Data(
        store="stores/python_library",
        vocabulary=Vocabulary(size=2048, train_characters=1_000_000),
        objective=Objective(kind="span_corruption", density=0.15, mean_span=3.0),
        length=128,
        held_out=0.05,
    ),
    optimizer=Optimizer(name="adafactor", learning_rate=0.2, schedule="linear", warmup=30),
    train=Train(directory="runs/tiny_t5", steps=500, batch=32, save_every=250),
    eval=Eval(every=250, rows=256, batch=32),
)
