"""What scores are worth: arithmetic that knows neither model nor file.

A module imports only from those before it:

    runs detection intersections
    ranking segments decisions calibration retrieval classification
    resampling frame_draws psds metrics clip_scores localisation outcomes
"""
