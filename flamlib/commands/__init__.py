"""The command `flam`.

A module imports only from those before it:

    arguments cli_ask cli_import cli_make cli
"""
