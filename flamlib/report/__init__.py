"""One HTML page with every result, beside published ones.

A module imports only from those before it:

    published gallery page cells worst paper_tables set_tables document
"""
