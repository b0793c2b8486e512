"""From scores and ground truth to numbers: arithmetic that knows neither model nor file.

A module imports only from those before it:

    intersections
    ranking segments f1 calibration retrieval classification
    bootstrap bootstrap_ranking psds metrics clip_scores sed outcomes
"""
