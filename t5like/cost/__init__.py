"""The cost of a run: FLOPs of each family, and the figures of known devices."""
