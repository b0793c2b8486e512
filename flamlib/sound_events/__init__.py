"""Sound events: when which caption sounds, in label files, in frames, and out of scores.

A module imports only from those before it:

    events        raw_events    jams          recording_names             crowsetta_labels
    reviews       raven_tables  labels        smoothing     runs          detection     event_tables
"""
