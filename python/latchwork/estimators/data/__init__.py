"""From what users have to what networks read: sequences, targets, batches, windows."""
