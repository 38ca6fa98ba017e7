"""The small BERT that benchmarks/tasks.py fine-tunes: masked tokens of English, in 20 minutes on two cores.

The text is what `english` of task_files.py writes: novels, C4, Wikipedia, and unlabelled sentences like those of the
tasks, of which no test split has one.
"""

from t5like.config import Config, Data, Eval, Group, Groups, Objective, Optimizer, Source, Train, Vocabulary
from t5like.model.architectures import architecture

SIZE = {"encoder_layers": 2, "embed": 128, "heads": 4, "kv": 32, "mlp": 512, "vocab": 6144, "max_positions": 128}
HEAD = {"head": "vocabulary", "pooler": False, "token_types": 2, "embedding_deviation": 0.1}
RATES = {"pretrain_en_novels": 0.45, "pretrain_en_c4_sample": 0.1, "wikitext2": 0.1, "sentences": 0.35}

config = Config(
    model=architecture("bert_base", **SIZE, **HEAD, dtype="float32"),
    data=Data(
        sources=tuple(
            Source(kind="text", path=f"data/{name}.txt", document="line", name=name, rate=rate)
            for name, rate in RATES.items()
        ),
        store="stores/english",
        vocabulary=Vocabulary(kind="wordpiece", size=6144, lowercase=True, sentinels=0),
        objective=Objective(kind="masked", density=0.3),
        length=64,
    ),
    optimizer=Optimizer(
        name="muon",
        learning_rate=0.004,
        schedule="linear",
        warmup=20,
        beta2=0.98,
        groups=Groups(embedding=Group(rate=3.0)),
    ),
    train=Train(directory="runs/english", steps=4000, batch=32, save_every=500, keep=1, log_every=100),
    eval=Eval(every=1000, rows=512, batch=128),
)
