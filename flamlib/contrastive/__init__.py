"""Losses that compare every clip with every caption, of one process or of all.

A module imports only from those before it:

    sharding tiled losses codewords
"""
