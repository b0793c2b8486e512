"""The command `flam`.

A module imports only from those before it:

    arguments ask import_models list_models make main
"""
