"""From recordings to mixtures with exact labels, and strongly labelled recordings beside them.

A module imports only from those before it:

    augmentation sources bank
    levels recipes mixture_files backgrounds mixing shards lexicon
    stats strong folds
"""
