"""The command `flam`.

A module imports only from those before it:

    errors aside stop pipes outputs arguments ask_model detect listen ask search_archive serve_page
    cut_segments adapt choose_thresholds evaluate_scores import_models list_models make
    main
"""
