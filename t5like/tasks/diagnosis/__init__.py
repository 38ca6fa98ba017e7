"""The reasons of a score: which classes are confused, which shape outputs have, which examples go wrong.

diagnosis = diagnose("accuracy", predictions, targets, inputs=inputs, certainty=probabilities)
print(diagnosis.as_text())
json.dumps(diagnosis.as_json())
svg(diagnosis.confusion)                     # the confusion table as a picture
"""

from t5like.tasks.diagnosis.confusion import Confusion
from t5like.tasks.diagnosis.diagnose import diagnose
from t5like.tasks.diagnosis.picture import svg
from t5like.tasks.diagnosis.report import Diagnosis

__all__ = ["Confusion", "Diagnosis", "diagnose", "svg"]
