"""Names of special tokens: those of a run beside those that a tokenizer's file has."""

from collections.abc import Sequence

from t5like.data.vocabulary.pieces import Pieces
from t5like.errors import UserError


def sentinel_number(name: str) -> int:
    """The number in a sentinel's name: 5 of <extra_id_5>."""
    return int(name.removeprefix("<extra_id_").removesuffix(">"))


def check_names(pieces: Pieces, extra: Sequence[str], sentinels: int, own: list[str]) -> None:
    """Check the special tokens of a run against those of a file, of which `own` are its sentinels.

    Raises:
      UserError: a name is one of the file's own, or the file has another number of sentinels.
    """
    if twice := [name for name in extra if name in pieces.special]:
        raise UserError(f"data.vocabulary.extra={tuple(extra)}: the vocabulary has {', '.join(twice)} of its own.")
    if own != [f"<extra_id_{n}>" for n in range(len(own))]:
        raise UserError(f"The vocabulary has sentinels up to {own[-1]}, but some below it are missing.")
    if own and sentinels not in (0, len(own)):
        raise UserError(
            f"data.vocabulary.sentinels={sentinels}, but the vocabulary has {len(own)} of its own: set "
            f"data.vocabulary.sentinels={len(own)}."
        )
