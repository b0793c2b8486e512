"""From mixtures to a trained model.

A module imports only from those before it:

    objective resume logbook distributed init average feature_extraction inputs fit launch
"""
