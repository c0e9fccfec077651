"""Weighted fits, honest comparisons, mergeable metrics and saved models; scikit-learn's estimators do the learning."""
