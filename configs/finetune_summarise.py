"""A T5 that writes the summary of a text, such as one sentence for an abstract.

The files are JSON lines with text and summary; summary may be a list, which is several references. Chinese needs
Task(chinese=True), so that ROUGE counts characters.
"""

from t5like.config import Config, Data, Eval, Group, Groups, Objective, Optimizer, Source, Task, Train, Vocabulary
from t5like.model.architectures import architecture

TASK = Task(kind="summarise", input="text", target="summary", prompt="summarize: {text}")
SIZE = {"encoder_layers": 3, "decoder_layers": 2, "embed": 128, "heads": 4, "kv": 32, "mlp": 256, "vocab": 6016}
START = {"embedding_deviation": 0.1, "initializer_factor": 0.09}
GROUPS = Groups(embedding=Group(rate=3.0), relative=Group(rate=10.0, decay=False))

config = Config(
    model=architecture("t5_1_1_small", **SIZE, tied=True, **START, dropout=0.1, dtype="float32"),
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
        store="stores/summarise",
        vocabulary=Vocabulary(size=6000, sentinels=0),
        objective=Objective(kind="sequence_to_sequence"),
        length=320,
        target_length=64,
    ),
    optimizer=Optimizer(name="muon", learning_rate=0.003, schedule="linear", warmup=20, groups=GROUPS),
    train=Train(directory="runs/summarise", epochs=8.0, batch=16, label_smoothing=0.1, best="task/rougeL", keep=1),
    eval=Eval(every=300, rows=100),
)
