"""Trainers, learning-rate schedule and training settings."""
