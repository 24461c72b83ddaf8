"""What a trained network is worth: statistics of scores, calibration and rejection, figures and the HTML report."""
