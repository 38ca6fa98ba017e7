"""A BERT that labels words: mentions of people in CoNLL's columns, by BIO.

The first column of the files is a word and the last its tag; a blank line ends a sentence.
"""

from t5like.config import Config, Data, Eval, Group, Groups, Objective, Optimizer, Source, Task, Train, Vocabulary
from t5like.model.architectures import architecture

LABELS = ("O", "B-PERSON", "I-PERSON")
TASK = Task(kind="tag", input="words", target="tags", labels=LABELS)
SIZE = {"encoder_layers": 2, "embed": 128, "heads": 4, "kv": 32, "mlp": 512, "vocab": 1024, "max_positions": 128}
START = {"embedding_deviation": 0.1, "initializer_factor": 0.09}
HEAD = {"head": "token", "labels": len(LABELS), "pooler": False}
UNUSED = {"output_transform": False, "output_bias": False}

config = Config(
    model=architecture("bert_base", **SIZE, **HEAD, **UNUSED, **START, dropout=0.1, dtype="float32"),
    data=Data(
        sources=(
            Source(
                kind="conll",
                path="data/train.conll",
                validation="data/validation.conll",
                test="data/test.conll",
                task=TASK,
            ),
        ),
        store="stores/tag",
        vocabulary=Vocabulary(kind="wordpiece", size=1024, lowercase=True, sentinels=0),
        objective=Objective(kind="token_classification", labels=len(LABELS)),
        length=64,
    ),
    optimizer=Optimizer(
        name="muon", learning_rate=0.002, schedule="linear", warmup=20, groups=Groups(embedding=Group(rate=3.0))
    ),
    train=Train(directory="runs/tag", epochs=10.0, batch=16, label_smoothing=0.1, best="task/f1", keep=1),
    eval=Eval(every=100),
)
