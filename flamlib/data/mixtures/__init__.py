"""From recordings to mixtures with exact labels, and strongly labelled recordings beside them.

A module imports only from those before it:

    augmentation sources source_table bank_shards bank
    levels recipes mixture_files backgrounds mixing shards lexicon
    stats strong folds
"""
