"""Several processes of one run: how they come together, the checks before they start, and their global batches."""
