"""Readers of public datasets in their official layouts.

A module imports only from those before it:

    annotations sed_sets caption_sets label_sets moment_sets testsets
"""
