"""FLAM with one thing changed.

A module imports only from those before it:

    ablation study dependency
"""
