"""A T5 that translates English into Chinese.

The files are JSON lines with en and zh; zh may be a list, which is several references. Files of which each has a line
for each line of the others are of kind "parallel": data/train.{en,zh}.
"""

from t5like.config import Config, Data, Eval, Group, Groups, Objective, Optimizer, Source, Task, Train, Vocabulary
from t5like.model.architectures import architecture

TASK = Task(kind="translate", input="en", target="zh", prompt="translate English to Chinese: {en}", chinese=True)
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
        store="stores/translate",
        vocabulary=Vocabulary(size=6000, sentinels=0),
        objective=Objective(kind="sequence_to_sequence"),
        length=48,
        target_length=48,
    ),
    optimizer=Optimizer(name="muon", learning_rate=0.003, schedule="linear", warmup=20, groups=GROUPS),
    train=Train(directory="runs/translate", epochs=8.0, batch=64, label_smoothing=0.1, best="task/bleu", keep=1),
    eval=Eval(every=500, rows=200),
)
