"""What a run costs: FLOPs of each family, and the figures of known devices."""
