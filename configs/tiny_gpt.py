"""A decoder-only model with rotary positions on Python's own library: next-token prediction in minutes on a laptop."""

from t5like.config import Config, Data, Eval, Group, Groups, Model, Objective, Optimizer, Train, Vocabulary

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
        initializer_factor=0.09,
        dtype="float32",
    ),
    data=Data(
        store="stores/python_library",
        vocabulary=Vocabulary(size=2048, sentinels=0, train_characters=1_000_000),
        objective=Objective(kind="causal"),
        length=128,
        held_out=0.05,
    ),
    # In single trials Muon with half a batch came farther than Adafactor with a whole one in the same time.
    optimizer=Optimizer(
        name="muon",
        learning_rate=0.006,
        schedule="linear",
        warmup=20,
        beta2=0.98,
        groups=Groups(embedding=Group(rate=2.0)),
    ),
    train=Train(directory="runs/tiny_gpt", steps=900, batch=16, save_every=300),
    eval=Eval(every=450, rows=256, batch=32),
)
