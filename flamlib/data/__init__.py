"""Recordings, mixtures and other people's datasets, up to the batch that a training step sees.

A module imports only from those before it:

    datasets collections corpus mixtures trunk_features pairs batches
"""
