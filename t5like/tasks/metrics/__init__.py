"""Metrics of tasks, as pure functions of predictions and targets, with numpy and without JAX.

    check("bleu", "text")                                  # a UserError that names those that fit, or nothing
    figures("accuracy", ["cat", "dog"], ["cat", "cat"])    # {"accuracy": 50.0, "f1_macro": 33.3..., ...}
    score("accuracy", predictions, targets)                # the same with intervals and a signature

Every figure is of the whole list, from 0 to 100 (correlations and Matthews from -100), higher is better. Each metric is
a function of `METRICS` (`table.py`) that reduces the examples to sufficient statistics (`Prepared`), so that an
interval is a product of matrices and not a thousand evaluations (`scoring.py`).
"""

from t5like.tasks.metrics.scoring import Scores, figures, score
from t5like.tasks.metrics.table import METRICS, Metric, check, fitting, prepare

__all__ = ["METRICS", "Metric", "Scores", "check", "figures", "fitting", "prepare", "score"]
