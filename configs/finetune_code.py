"""A T5 that writes the line of code that a text describes, or code in another language.

The files have a line for each line of the others: data/train.text and data/train.code.
"""

from t5like.config import Config, Data, Eval, Group, Groups, Objective, Optimizer, Source, Task, Train, Vocabulary
from t5like.model.architectures import architecture

TASK = Task(kind="code", input="text", target="code")
SIZE = {"encoder_layers": 3, "decoder_layers": 2, "embed": 128, "heads": 4, "kv": 32, "mlp": 256, "vocab": 4096}
START = {"embedding_deviation": 0.1, "initializer_factor": 0.09}
GROUPS = Groups(embedding=Group(rate=3.0), relative=Group(rate=10.0, decay=False))

config = Config(
    model=architecture("t5_1_1_small", **SIZE, tied=True, **START, dropout=0.1, dtype="float32"),
    data=Data(
        sources=(
            Source(
                kind="parallel",
                path="data/train.{text,code}",
                validation="data/validation.{text,code}",
                test="data/test.{text,code}",
                task=TASK,
            ),
        ),
        store="stores/code",
        vocabulary=Vocabulary(size=4000, sentinels=0),
        objective=Objective(kind="sequence_to_sequence"),
        length=128,
        target_length=64,
    ),
    optimizer=Optimizer(name="muon", learning_rate=0.003, schedule="linear", warmup=20, groups=GROUPS),
    train=Train(directory="runs/code", epochs=8.0, batch=32, label_smoothing=0.1, best="task/bleu", keep=1),
    eval=Eval(every=500, rows=200),
)
