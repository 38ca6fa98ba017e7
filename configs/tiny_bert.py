"""A BERT (post-norm, learned positions, biases) on Python's own library: masked LM in minutes on a laptop."""

from t5like.config import MASK, Config, Data, Eval, Model, Objective, Optimizer, Train, Vocabulary

config = Config(
    model=Model(
        encoder_layers=2,
        embed=128,
        heads=4,
        kv=32,
        mlp=256,
        vocab=2176,
        positions="learned",
        max_positions=128,
        norm="layer",
        norm_position="post",
        embedding_norm=True,
        norm_epsilon=1e-12,
        activation="gelu",
        gated=False,
        bias=True,
        tied=True,
        scale_attention=True,
        embedding_deviation=0.1,
        dtype="float32",
    ),
    data=Data(
        store="stores/python_library",
        vocabulary=Vocabulary(size=2048, extra=(MASK,), sentinels=0, train_characters=1_000_000),
        objective=Objective(kind="masked", density=0.15),
        length=128,
        held_out=0.05,
    ),
    optimizer=Optimizer(name="adamw", learning_rate=0.004, schedule="linear", warmup=50, clip=1.0),
    train=Train(directory="runs/tiny_bert", steps=700, batch=32, save_every=350),
    eval=Eval(every=350, rows=256, batch=32),
)
