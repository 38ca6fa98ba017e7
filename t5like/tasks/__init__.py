"""Tasks: the scores of predictions, and what tells why a score is so."""
