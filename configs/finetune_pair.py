"""A BERT that says how two texts relate: whether one follows from the other, as in SNLI.

The files have the columns first, second and label in their first lines. Numbers instead of labels are of the kind
"regress", with the objective regression.
"""

from t5like.config import Config, Data, Eval, Group, Groups, Objective, Optimizer, Source, Task, Train, Vocabulary
from t5like.model.architectures import architecture

LABELS = ("contradiction", "entailment", "neutral")
TASK = Task(kind="pair", input="first", second="second", target="label", labels=LABELS)
SIZE = {"encoder_layers": 2, "embed": 128, "heads": 4, "kv": 32, "mlp": 512, "vocab": 6144, "max_positions": 128}
START = {"embedding_deviation": 0.1, "initializer_factor": 0.09}
HEAD = {"head": "sequence", "labels": len(LABELS), "pooling": "mean", "pooler": False}
UNUSED = {"output_transform": False, "output_bias": False}

config = Config(
    model=architecture("bert_base", **SIZE, **HEAD, **UNUSED, **START, dropout=0.1, dtype="float32"),
    data=Data(
        sources=(
            Source(
                kind="tsv", path="data/train.tsv", validation="data/validation.tsv", test="data/test.tsv", task=TASK
            ),
        ),
        store="stores/pair",
        vocabulary=Vocabulary(kind="wordpiece", size=6144, lowercase=True, sentinels=0),
        objective=Objective(kind="classification", labels=len(LABELS)),
        length=96,
    ),
    optimizer=Optimizer(
        name="muon", learning_rate=0.002, schedule="linear", warmup=20, groups=Groups(embedding=Group(rate=1.0))
    ),
    train=Train(directory="runs/pair", epochs=8.0, batch=32, label_smoothing=0.1, best="task/accuracy", keep=1),
    eval=Eval(every=100),
)
