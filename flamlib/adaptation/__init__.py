"""A user's own labelled recordings: thresholds chosen on them, captions adapted to them.

A module imports only from those before it:

    own_labels choose logistic adapter learn
"""
