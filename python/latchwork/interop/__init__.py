"""Models from elsewhere, and models for elsewhere: one file for each format, around the chain in `chain`."""
