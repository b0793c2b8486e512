"""Figures; each function draws one.

A module imports only from those before it:

    style overview player spectrograms curves figures
"""
