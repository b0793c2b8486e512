"""Readers of collections of recordings to train on, in the layouts in which they are published.

A module imports only from those before it:

    licences items freesound_sets caption_collections class_collections libraries
    timed_collections kinds
"""
