"""A BERT that marks the answer to a question in a text, as in SQuAD; long texts become windows that overlap.

The files are JSON lines with question, context and answers: a text, a list of texts, or SQuAD's objects with text and
answer_start. Questions without an answer need Task(unanswerable=True).
"""

from t5like.config import Config, Data, Eval, Group, Groups, Objective, Optimizer, Source, Task, Train, Vocabulary
from t5like.model.architectures import architecture

TASK = Task(kind="span", input="question", context="context", target="answers")
SIZE = {"encoder_layers": 2, "embed": 128, "heads": 4, "kv": 32, "mlp": 512, "vocab": 6144, "max_positions": 256}
START = {"embedding_deviation": 0.1, "initializer_factor": 0.09}
HEAD = {"head": "span", "pooler": False}
UNUSED = {"output_transform": False, "output_bias": False}

config = Config(
    model=architecture("bert_base", **SIZE, **HEAD, **UNUSED, **START, dropout=0.1, dtype="float32"),
    data=Data(
        sources=(
            Source(
                kind="jsonl",
                path="data/train.jsonl",
                validation="data/validation.jsonl",
                test="data/test.jsonl",
                task=TASK,
            ),
        ),
        store="stores/squad",
        vocabulary=Vocabulary(kind="wordpiece", size=6144, lowercase=True, sentinels=0),
        objective=Objective(kind="span"),
        length=256,
    ),
    optimizer=Optimizer(
        name="muon", learning_rate=0.002, schedule="linear", warmup=20, groups=Groups(embedding=Group(rate=3.0))
    ),
    train=Train(directory="runs/squad", epochs=3.0, batch=32, best="task/f1", keep=1),
    eval=Eval(every=100, rows=200),
)
