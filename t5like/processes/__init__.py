"""Several processes of one run: how they find each other, what must hold before they start, and their batches."""
