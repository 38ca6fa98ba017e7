"""Faults of files and records: each ends the reading with a sentence, or is counted and shown."""

from dataclasses import dataclass, field

from t5like.errors import UserError

EXAMPLES = 3
"""Faults that are shown."""
REMEDY = "Mend it, or leave such records out with data.sources.N.on_error='skip'."


class DamagedError(UserError):
    """A file, or the rest of one, that cannot be read whatever else is read."""


@dataclass
class Faults:
    """Records and files that could not be read."""

    skip: bool = False
    """Count them; without, the first is an error."""
    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, sentence: str) -> None:
        """
        Raises:
          UserError: faults are not to be skipped.
        """
        if not self.skip:
            raise UserError(f"{sentence} {REMEDY}")
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(sentence)
