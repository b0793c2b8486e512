"""Figures; each function draws one.

A module imports only from those before it:

    canvas overview scenes curves figures
"""
