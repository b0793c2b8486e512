"""`flam serve`: recordings are heard, asked and searched over HTTP, and on a page.

A module imports only from those before it:

    refusals caps line room app
"""
