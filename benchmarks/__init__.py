"""Measurements behind what the README says about speed, each side by side in one run."""
