"""What a run would need on devices that nobody owns yet: memory, FLOPs, collectives, time and money."""
