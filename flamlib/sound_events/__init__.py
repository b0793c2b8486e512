"""Sound events: when which caption sounds, in label files, in frames, and out of scores.

A module imports only from those before it:

    events        jams          recording_names             crowsetta_labels            reviews
    labels        smoothing     runs          detection     event_tables
"""
