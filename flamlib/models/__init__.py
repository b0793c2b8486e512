"""The towers, and the models that stand on them.

A module imports only from those before it:

    tags yamnet htsat card checkpoint captions
    listener heads two_towers model mgaclap
"""
