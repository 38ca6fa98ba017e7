"""Names of tensors that the decoders of transformers share: a prefix, which a bare model lacks, and two heads."""

from t5like.config import Model

HEADS = ("lm_head.", "score.")


def prefixed(name: str, prefix: str, model: Model) -> str:
    """A tensor's name as the model's own class has it: with the prefix, but not a head's and not in a bare model."""
    bare = name.removeprefix(prefix)
    return bare if model.head == "none" or bare.startswith(HEADS) else prefix + bare


def of_another_head(name: str, model: Model) -> str | None:
    """The reason for which a head's tensor fills no parameter, if it is one of another head."""
    if name.startswith(HEADS) and model.head != "vocabulary":
        return "the class that config.json names has no such head"
    return None
