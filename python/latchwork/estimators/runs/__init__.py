"""The loop that trains, and what lets a run survive: checkpoints, certificates."""
