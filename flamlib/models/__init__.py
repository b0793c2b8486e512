"""The audio and caption towers, and the models built on them.

A module imports only from those before it:

    renaming class_features card settings state_dict released checkpoint caption_thresholds
    convolutions dropout yamnet htsat bert plain_bert text_tower tensorbundle weights light saved
    interface heads dual_encoder familiarity flam mga_clap
    importers baselines
"""
