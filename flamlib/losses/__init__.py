"""Contrastive losses of any size, computed on one process or on several.

A module imports only from those before it:

    sharding tiled frame_wise codebook
"""
