"""Where recordings and captions come from: packages, a folder of your own, a captioner.

A module imports only from those before it:

    containers archives packages catalogue own_sounds recordings corpus
    caption_writers captioning
"""
