"""The small decoder that benchmarks/tasks.py fine-tunes: the next token of English.

The text is what `english` of task_files.py writes: novels, C4, Wikipedia, and unlabelled sentences like those of the
tasks, of which no test split has one. A model of the next token learns from every token of a row, and so from more of
them in the same time than one of masked tokens.
"""

from t5like.config import Config, Data, Eval, Group, Groups, Model, Objective, Optimizer, Source, Train, Vocabulary

RATES = {"pretrain_en_novels": 0.3, "pretrain_en_c4_sample": 0.1, "wikitext2": 0.1, "sentences": 0.5}

config = Config(
    model=Model(
        decoder_layers=2,
        embed=128,
        heads=4,
        kv=32,
        mlp=256,
        vocab=6144,
        positions="rotary",
        activation="silu",
        scale_attention=True,
        tied=True,
        embedding_deviation=0.1,
        initializer_factor=0.09,
        dtype="float32",
    ),
    data=Data(
        sources=tuple(
            Source(kind="text", path=f"data/{name}.txt", document="line", name=name, rate=rate)
            for name, rate in RATES.items()
        ),
        store="stores/english",
        vocabulary=Vocabulary(kind="wordpiece", size=6144, lowercase=True, sentinels=0),
        objective=Objective(kind="causal"),
        length=64,
    ),
    optimizer=Optimizer(
        name="muon",
        learning_rate=0.005,
        schedule="linear",
        warmup=20,
        beta2=0.98,
        groups=Groups(embedding=Group(rate=2.0)),
    ),
    train=Train(directory="runs/english", steps=2400, batch=32, save_every=400, keep=1, log_every=100),
    eval=Eval(every=800, rows=256, batch=128),
)
