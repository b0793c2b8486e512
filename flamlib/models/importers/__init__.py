"""Converters of published checkpoints, and the weights of towers from packages.

A module imports only from those before it:

    tensorbundle weights
    htsat_layout text_layout recognition openflam clap originals
"""
