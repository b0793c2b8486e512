"""One page with all that was measured, beside what others published.

A module imports only from those before it:

    published gallery page cells paper_tables set_tables report
"""
