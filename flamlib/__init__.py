"""FLAM: find the moments of a sound clip that a sentence describes (arXiv:2505.05335).

The notebooks call this package; they define nothing. A module imports only from those before it in
this list, which `tests/test_layers.py` reads:

    project       cluster       distributions events        jams_files    audio
    containers    archives      packages      catalogue     own_sounds    recordings
    caption_writers             captioning
    sharding      tiled         losses        codewords
    runs          detection     intersections
    ranking       segments      decisions     calibration   retrieval     classification
    resampling    frame_draws   psds          metrics       localisation  outcomes
    tables        annotations   sed_sets      caption_sets  label_sets    testsets
    augmentation  corpus        tensorbundle  tags          yamnet        htsat
    weights       sources       bank
    pieces        recipes       rules         mixing        manifest      shards        lexicon
    contents      strong
    card          checkpoint    captions      listener      heads         two_towers
    model         mgaclap       batches
    detector
    htsat_layout  text_layout   openflam      clap          originals     export
    canvas        overview      scenes        curves        figures
    objective     resuming      logbook       processes     initialising  training
    baselines     embedding     heldout       judging       evaluation    benchmarking  scoring
    published     gallery       page          cells         paper_tables  set_tables    report
    launch        ablation      study         dependency
    arguments     cli_ask       cli_import    cli_make      cli

Row by row: files, seconds and samples; where recordings, weights and captions come from; the
losses; frames and events; each question that is asked of them, as arithmetic that knows neither
model nor file, and of many clips; sets that others annotated; recordings, audio towers and weights
as the experiment needs them; mixtures with exact labels, and recordings beside them; the caption
tower, whole models, tensors and detections; checkpoints of others, and ours as ONNX; pictures; the
training loop; what it was good for; what others published, and the page that shows all; the same
from a shell, and with one thing changed.
"""


def __getattr__(name: str):
    """`flamlib.FLAM`, fetched on first use: it brings torch and transformers, seconds of import."""
    if name == "FLAM":
        from flamlib.model import FLAM

        return FLAM
    raise AttributeError(f"module 'flamlib' has no attribute {name!r}")
