"""From recordings to mixtures with exact labels, and timed recordings beside them.

A module imports only from those before it:

    augmentation sources bank
    pieces recipes rules mixing shards lexicon
    contents strong
"""
