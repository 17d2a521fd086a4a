"""Measures of how well a prediction agrees with a label: pure functions of label arrays."""
