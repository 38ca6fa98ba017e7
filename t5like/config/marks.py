"""Marks of fields that are flags, read by tyro.

Each imports tyro only when it is called. In modules whose annotations stay text (`from __future__ import annotations`)
that is when a class is read, not when it is defined: `t5like --help` never waits for tyro.
"""

from t5like.config.conditions import AppliesTo


def applies_to(field: str, *values: object, words: str = "") -> object:
    """Mark a field with the condition under which it has an effect, see `AppliesTo`; tyro ends the help with it."""
    import tyro

    return tyro.conf.arg(help_behavior_hint=AppliesTo(field, values, words))


def repeatable() -> object:
    """Mark a tuple whose flag takes one element and may be given several times."""
    import tyro

    return tyro.conf.UseAppendAction


def without_prefix() -> object:
    """Mark a nested class whose fields are flags by their own names: `--top_k`, not `--sampling.top_k`."""
    import tyro

    return tyro.conf.arg(name="")
