"""Models evaluated on held-out splits and public datasets, and the ablation study.

A module imports only from those before it:

    splits priors split_metrics evaluate benchmarks single_model
    ablation study dependency run_study
"""
