"""Bundles: what a submission sees and is judged by. Open one, prepare a home, calibrate thresholds.

Trusted. Torch runs in processes of its own, never in the one that imports this package.
"""
