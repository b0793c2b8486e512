"""Recordings as waveforms: files decoded to their last sample, resampling, levels, pipes.

`audio` reads for everything that hears; the modules before it are how, those after it read folders
and pipes. A module imports only from those before it:

    ogg           mpeg          chunks        decoders      chain         formats
    fir           decibels      audio         collection    streams
"""
