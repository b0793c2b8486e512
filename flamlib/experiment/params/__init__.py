"""The sections of `params.yaml`: what each parameter means, its unit, its range, the paper's value.

A module imports only from those before it:

    sounds        network       learning      trials

"Paper" is FLAM, arXiv:2505.05335; `configs/paper.yaml` says what is known of each value and how. A
field of type `Distribution` takes any form that `flamlib.compute.distributions` describes.
"""
