"""A decoder-only model with rotary positions on Python's own library: next-token prediction in minutes on a laptop."""

from t5like.config import Config, Data, Eval, Model, Objective, Optimizer, Train, Vocabulary

config = Config(
    model=Model(
        decoder_layers=3,
        embed=128,
        heads=4,
        kv=32,
        mlp=256,
        vocab=2048,
        positions="rotary",
        activation="silu",
        scale_attention=True,
        embedding_deviation=0.1,
        dtype="float32",
    ),
    data=Data(
        store="stores/python_library",
        vocabulary=Vocabulary(size=2048, sentinels=0, train_characters=1_000_000),
        objective=Objective(kind="causal"),
        length=128,
        held_out=0.05,
    ),
    optimizer=Optimizer(name="adafactor", learning_rate=0.1, schedule="cosine", warmup=30, clip=1.0),
    train=Train(directory="runs/tiny_gpt", steps=400, batch=32, save_every=200),
    eval=Eval(every=200, rows=256, batch=32),
)
