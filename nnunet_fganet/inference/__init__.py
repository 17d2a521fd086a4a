"""Prediction at the machine's pace: FGA-Net made ready once, then asked for many frames."""
