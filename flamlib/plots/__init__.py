"""Figures; each function draws one.

A module imports only from those before it:

    style overview spectrograms curves figures
"""
