"""A decoder that answers in a dialogue; it learns the assistant's messages, each from all that came before it.

The files are JSON lines with messages, which have role and content as OpenAI has them, or ShareGPT's from and value.
"""

from t5like.config import Config, Data, Eval, Group, Groups, Objective, Optimizer, Source, Task, Train, Vocabulary
from t5like.model.architectures import architecture

TASK = Task(kind="chat", input="messages", user="User: {content}\n", assistant="Assistant: {content}\n", tokens=128)
SIZE = {"decoder_layers": 3, "embed": 128, "heads": 4, "kv_heads": 4, "kv": 32, "mlp": 256, "vocab": 4096}
START = {"embedding_deviation": 0.1, "initializer_factor": 0.09}

config = Config(
    model=architecture("llama_2_7b", **SIZE, max_positions=512, **START, tied=True, dropout=0.1, dtype="float32"),
    data=Data(
        sources=(Source(kind="jsonl", path="data/train.jsonl", test="data/test.jsonl", task=TASK),),
        store="stores/chat",
        vocabulary=Vocabulary(kind="byte_bpe", size=4096, sentinels=0),
        objective=Objective(kind="prompt_target"),
        length=384,
        held_out=0.05,
    ),
    optimizer=Optimizer(
        name="muon", learning_rate=0.004, schedule="linear", warmup=20, groups=Groups(embedding=Group(rate=2.0))
    ),
    train=Train(directory="runs/chat", epochs=4.0, batch=16, best="loss", keep=1),
    eval=Eval(every=200, rows=128),
)
