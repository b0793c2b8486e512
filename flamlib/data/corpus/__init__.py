"""Where recordings and captions come from: packages, a folder of your own, a caption writer.

A module imports only from those before it:

    containers archives headerless packages catalogue labelled auto_splits own_sounds recordings
    caption_rules caption_writers kept_unseen collected duplicates build data_folder captioning
"""
