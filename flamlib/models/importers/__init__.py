"""Converters of published checkpoints.

A module imports only from those before it:

    htsat_layout text_layout recognition openflam clap originals others
"""
