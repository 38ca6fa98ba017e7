"""The model card of an exported run, made of facts in its config and its run directory alone."""

from t5like.convert.kept_fields import read_record
from t5like.json_files import json_object
from t5like.model.architectures import parameter_count
from t5like.runs.opened import Restored
from t5like.versions import VERSION

PIPELINES = {"vocabulary": {"encoder-decoder": "text2text-generation", "decoder": "text-generation"}}
PIPELINES["vocabulary"]["encoder"] = "fill-mask"


def model_card(restored: Restored, loaded_by: str, name: str) -> str:
    """A README.md in the form that model hubs read."""
    config, model = restored.config, restored.config.model
    pipeline = PIPELINES.get(model.head, {}).get(model.family)
    head = [
        "---",
        "library_name: transformers",
        *([f"pipeline_tag: {pipeline}"] if pipeline else []),
        "tags:",
        "- t5like",
    ]
    rows = {
        "architecture": f"{model.family}, {model.encoder_layers} encoder and {model.decoder_layers} decoder layers, "
        f"width {model.embed}, {model.heads} heads of {model.kv}, feed-forward width {model.mlp}",
        "parameters": f"{parameter_count(model):,}",
        "vocabulary": f"{restored.vocabulary.size:,} pieces in {model.vocab:,} rows ({config.data.vocabulary.kind})",
        "step": f"{restored.step:,}",
        **(_training(restored) if restored.step else {}),
        **_origin(restored),
        **_figures(restored),
    }
    lines = [f"| {key} | {value} |" for key, value in rows.items()]
    return "\n".join(
        [
            *head,
            "---",
            "",
            f"# {name}",
            "",
            f"Exported by t5like {VERSION}. Load it with transformers:",
            "",
            "```python",
            f"from transformers import AutoTokenizer, {loaded_by}",
            "",
            f'tokenizer = AutoTokenizer.from_pretrained("{name}")',
            f'model = {loaded_by}.from_pretrained("{name}")',
            "```",
            "",
            "| what | as the run has it |",
            "|---|---|",
            *lines,
            "",
            "Nothing is known here of the training data's licence, of intended uses or of biases: add what you know.",
            "",
        ]
    )


def _training(restored: Restored) -> dict[str, str]:
    config = restored.config
    sources = ", ".join(f"{n} ({s.kind})" for n, s in zip(config.data.source_names, config.data.sources, strict=True))
    lengths = ", ".join(f"{stack} {length}" for stack, length in config.data.lengths.items())
    optimizer = config.optimizer
    return {
        "trained on": sources,
        "objective": f"{config.data.objective.kind}; tokens of a row: {lengths}",
        "batch": f"{config.train.batch} rows",
        "optimizer": f"{optimizer.name}, peak rate {optimizer.learning_rate:g}, {optimizer.schedule}",
        **({"started from": config.train.init_from} if config.train.init_from else {}),
    }


def _origin(restored: Restored) -> dict[str, str]:
    record = read_record(restored.run)
    return {"imported from": f"weights of {record['from']}"} if "from" in record else {}


def _figures(restored: Restored) -> dict[str, str]:
    """The figures of the validation split at this very step, if `t5like eval` has kept them."""
    kept = json_object(restored.run.path / "eval.json")
    if kept.get("step") != restored.step:
        return {}
    return {
        f"held-out {key.replace('_', ' ')}": f"{kept[key]:.4g}"
        for key in ("loss", "perplexity", "accuracy")
        if isinstance(kept.get(key), int | float)
    }
