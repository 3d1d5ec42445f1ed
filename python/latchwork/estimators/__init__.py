"""Models with scikit-learn's habits: `fit`, parameters that are stored as given, learned names that end in _."""
