"""An experiment's parameters, typed and checked, and the digests of what a result comes from.

A module, and the package, imports only from those before it:

    parameters    overrides     params        config        provenance
"""
