"""Models of PyTorch: in from modules, state dictionaries and files, and out again as modules."""
