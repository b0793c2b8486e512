"""The command `flam`.

A module imports only from those before it:

    errors arguments ask adapt import_models list_models make main
"""
