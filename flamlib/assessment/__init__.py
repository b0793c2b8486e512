"""Models judged on held-out parts and on public sets.

A module imports only from those before it:

    heldout judging evaluation benchmarking scoring
"""
