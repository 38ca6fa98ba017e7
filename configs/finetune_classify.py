"""A BERT that says the class of a text: questions by what they ask for, as in TREC.

The files have the columns label and text in their first lines. A pretrained
model is fine-tuned by `t5like finetune RUN data`.
"""

from t5like.config import Config, Data, Eval, Group, Groups, Objective, Optimizer, Source, Task, Train, Vocabulary
from t5like.model.architectures import architecture

LABELS = ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")
TASK = Task(kind="classify", input="text", target="label", labels=LABELS)
SIZE = {"encoder_layers": 1, "embed": 128, "heads": 4, "kv": 32, "mlp": 512, "vocab": 2048, "max_positions": 128}
START = {"embedding_deviation": 0.1, "initializer_factor": 0.09}
HEAD = {"head": "sequence", "labels": len(LABELS), "pooling": "mean", "pooler": False}
UNUSED = {"output_transform": False, "output_bias": False}

config = Config(
    model=architecture("bert_base", **SIZE, **HEAD, **UNUSED, **START, dropout=0.4, dtype="float32"),
    data=Data(
        sources=(
            Source(
                kind="tsv", path="data/train.tsv", validation="data/validation.tsv", test="data/test.tsv", task=TASK
            ),
        ),
        store="stores/classify",
        vocabulary=Vocabulary(kind="wordpiece", size=2048, lowercase=True, sentinels=0),
        objective=Objective(kind="classification", labels=len(LABELS)),
        length=48,
    ),
    optimizer=Optimizer(
        name="muon", learning_rate=0.002, schedule="linear", warmup=20, groups=Groups(embedding=Group(rate=1.0))
    ),
    train=Train(directory="runs/classify", epochs=12.0, batch=64, label_smoothing=0.1, best="task/accuracy", keep=1),
    eval=Eval(every=100),
)
