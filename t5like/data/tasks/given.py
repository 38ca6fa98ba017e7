"""Examples that a program gives instead of a file."""

from collections.abc import Mapping
from typing import Any

from t5like.config.checks import require
from t5like.config.tasks import Task
from t5like.data.example import Example
from t5like.data.sources.records import Row
from t5like.data.tasks.examples import examples_of


def given_example(task: Task, number: int, given: str | Mapping[str, Any]) -> Example:
    """An example of a task from fields, or from the text of the only one; of a dialogue, its last answer.

    Raises:
      UserError: a field is missing, or the task has more than one.
    """
    if isinstance(given, str):
        require(
            task.asked == (task.input,),
            f"Example {number} (counted from 0) is a text, but the task needs the fields {', '.join(task.asked)}: give "
            "a dictionary with them.",
        )
        given = {task.input: [{"role": "user", "content": given}] if task.kind == "chat" else given}
    where = f"Example {number} (counted from 0)"
    return list(examples_of(task, Row(number, given, lambda: where), labelled=False))[-1]
