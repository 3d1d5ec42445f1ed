"""What scikit-learn asks an estimator about itself; only scikit-learn calls this, so only then is it imported."""

from __future__ import annotations

import importlib
from typing import Any


def sklearn_tags(kind: str) -> Any:
    """Make the tags of a "regressor" or a "classifier"."""
    utils = importlib.import_module("sklearn.utils")
    return utils.Tags(
        estimator_type=kind,
        target_tags=utils.TargetTags(required=True, multi_output=kind == "regressor"),
        transformer_tags=None,
        regressor_tags=utils.RegressorTags() if kind == "regressor" else None,
        classifier_tags=utils.ClassifierTags() if kind == "classifier" else None,
        input_tags=utils.InputTags(two_d_array=True, three_d_array=True, allow_nan=True),
    )
