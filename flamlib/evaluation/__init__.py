"""Models evaluated on held-out splits and public datasets, the ablation study, and
cross-validation.

A module imports only from those before it:

    splits priors thresholds split_metrics masking evaluate benchmarks single_model
    ablation study dependency run_study cross_validate trust
    score_tables span_blocks systems mteb_encoder
"""
