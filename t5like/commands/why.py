"""The command that looks at a step of a run: why."""

from __future__ import annotations

import math
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from t5like.commands import Command
from t5like.config import Config
from t5like.config.checks import FLAGS, require, require_fields, require_positive
from t5like.config.marks import applies_to
from t5like.strict_json import dumps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from t5like.train.why import Why


@dataclass(frozen=True, kw_only=True)
class WhyOptions:
    """Options of `t5like why`."""

    step: int
    """Training step to look at, as logs count them."""
    rows: int = 5
    """Rows of the batch that are shown, those with the largest losses first."""
    skipped: int | None = None
    """Rows that lie skipped before the step, for one that the run went back from; by default as in the run now."""
    replay: bool = True
    """Take the steps since the checkpoint before it again; False leaves the parameters as they were there."""
    json: bool = False
    """Print JSON, with all rows."""
    color: Annotated[Literal["auto", "always", "never"], applies_to("json", False)] = "auto"
    """Mark segments and special pieces by colours; auto: on a terminal."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)
        require_positive(FLAGS, self, "step", "rows")
        require(self.skipped is None or self.skipped >= 0, f"--skipped {self.skipped} must not be negative.")


def why(config: Config, options: WhyOptions) -> None:
    from t5like.train.why import explain_step

    say = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
    found = explain_step(config, options.step, say, options.skipped, options.replay)
    labels = config.data.objective.kind == "token_classification"
    if options.json:
        print(dumps(_record(found, labels), ensure_ascii=False))
        return
    for line in _lines(config, found):
        print(line)
    color = options.color == "always" or (options.color == "auto" and sys.stdout.isatty())
    width = shutil.get_terminal_size((100, 24)).columns
    from t5like.data.inspection import as_text

    for row in found.rows[: options.rows]:
        print(f"\nloss {row.loss:.4g} of {row.targets:,.0f} targets")
        own = {name: values[row.row : row.row + 1] for name, values in found.features.items()}
        print(as_text(own, found.vocabulary, [row.origin], color, row.row, width, labels), end="")


def _record(found: Why, labels: bool) -> dict[str, object]:
    from t5like.data.inspection import as_json

    origins = [row.origin for row in sorted(found.rows)]
    records = list(as_json(found.features, found.vocabulary, origins, labels=labels))
    shown = [
        {name: value for name, value in records[row.row].items() if name != "features"}
        | {"loss": row.loss, "targets": row.targets}
        for row in found.rows
    ]
    return {
        "step": found.step,
        "parameters_of": found.parameters_of,
        "loss": found.loss,
        "gradient_norm": found.gradient_norm,
        "parameters_not_finite": found.broken,
        "groups": {name: group._asdict() for name, group in found.groups.items()},
        "rows": shown,
    }


def _lines(config: Config, found: Why) -> Iterator[str]:
    yield (
        f"Step {found.step:,} of {config.train.directory}, with the parameters of step {found.parameters_of:,}: loss "
        f"{found.loss:.4g}, gradient norm {found.gradient_norm:.4g}."
    )
    for path, count in found.broken.items():
        yield f"  The parameter {path} itself is not finite in {count:,} of its numbers."
    width, whole = max(map(len, found.groups)), found.gradient_norm**2
    for name, group in found.groups.items():
        share = f"{group.norm**2 / whole:7.1%}" if whole and math.isfinite(whole) else ""
        bad = f"  {group.not_finite:,} numbers are not finite" if group.not_finite else ""
        yield f"  {name:<{width}}  {group.norm:10.4g} {share}{bad}"


COMMANDS = (
    Command("why", "run", "the rows of a training step by their losses, its gradient by groups", why, WhyOptions),
)
