"""FLAM: find the moments of a sound clip that a sentence describes (arXiv:2505.05335).

The notebooks call this package; they define nothing. Modules import only from those above them:

    project   events   audio                 the root and its files; seconds and frames; samples
    archives  packages                       where recordings and weights come from
    losses    detection   metrics            arithmetic that knows neither model nor file
    corpus    weights     bank               recordings and weights, as the experiment needs them
    mixing    yamnet      htsat              mixtures with exact labels; the audio towers
    captions  model       batches  figures   the caption tower; the whole model; tensors; pictures
    training  evaluation                     the loop, and what it was good for
    cli                                      the same, from a shell
"""
