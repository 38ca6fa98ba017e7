"""Plans: the memory, FLOPs, collectives, time and price of a run on devices that nobody owns yet."""
