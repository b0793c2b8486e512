"""How it is computed: memory, cores, products of matrices, random numbers.

A module imports only from those before it:

    memory        interrupts    dask_clusters parallel      few_rows      distributions
"""
