"""Weights and models of others, from packages and from the files they publish.

A module imports only from those before it:

    tensorbundle weights
    htsat_layout text_layout openflam clap originals
    baselines
"""
