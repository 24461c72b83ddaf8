"""Evaluation after training: score statistics, calibration and outlier detection, figures and the HTML report."""
