"""Figures; each function draws one.

A module imports only from those before it:

    style overview player mel_levels spectrograms curves figures
"""
