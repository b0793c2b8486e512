"""From recipes to a trained model.

A module imports only from those before it:

    batches objective resuming logbook processes initialising training
"""
