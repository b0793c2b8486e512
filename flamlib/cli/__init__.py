"""The command `flam`.

A module imports only from those before it:

    arguments ask import_models make main
"""
