"""Files in which recordings come: encoded as devices and programs do it."""

import av
import numpy as np
import soundfile


def noise(seconds, rate=44100, level=0.1):
    """Noise that is not the same at any two times."""
    samples = np.random.default_rng(0).normal(size=round(seconds * rate))
    return (level * samples).clip(-1, 1).astype(np.float32)


def write_ogg(path, waveform, rate, subtype="VORBIS"):
    """In blocks: libsndfile's encoder of Vorbis takes no long waveform at once."""
    with soundfile.SoundFile(path, "w", rate, 1, format="OGG", subtype=subtype) as file:
        for start in range(0, len(waveform), 4096):
            file.write(waveform[start : start + 4096])


def encode(path, waveform, rate, codec, *, container=None, quality=None, **options):
    """Encode a mono waveform by FFmpeg; `quality` is that of a variable rate, 0 the best."""
    with av.open(path, "w", format=container, options=options) as out:
        stream = out.add_stream(codec, rate=rate, layout="mono")
        stream.bit_rate = 128_000
        if quality is not None:
            stream.codec_context.qscale = True
            stream.codec_context.global_quality = quality
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=rate)
        samples = np.asarray(waveform, np.float32)
        frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        for converted in [*resampler.resample(frame), None]:
            for packet in stream.encode(converted):
                out.mux(packet)
