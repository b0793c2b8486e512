"""From scores and ground truth to metrics: arithmetic that knows neither model nor file.

Scores come first, ground truth second. `clip_scores` holds the scores of a model on a set of
clips, `sed` computes all metrics of sound event detection from them, `outcomes` has the results of
models on a test set. The others have one kind of metric each.

A module imports only from those before it:

    intersections
    quantiles ranking segments f1 calibration retrieval classification
    bootstrap bootstrap_ranking psds clip_scores spans moments sed outcomes
"""
