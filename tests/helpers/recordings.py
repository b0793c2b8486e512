"""Files in which recordings come: encoded as devices and programs do it."""

from fractions import Fraction

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


def encode(path, waveform, rate, codec, *, container=None, quality=None, start_s=0, **options):
    """Encode a mono waveform by FFmpeg; `quality` is that of a variable rate, 0 the best.

    The time stamps begin at `start_s`.
    """
    with av.open(path, "w", format=container, options=options) as out:
        stream = out.add_stream(codec, rate=rate, layout="mono")
        stream.bit_rate = 128_000
        if quality is not None:
            stream.codec_context.qscale = True
            stream.codec_context.global_quality = quality
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=rate)
        samples = np.asarray(waveform, np.float32)
        frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.sample_rate, frame.pts = rate, round(start_s * rate)
        for converted in [*resampler.resample(frame), None]:
            for packet in stream.encode(converted):
                out.mux(packet)


def encode_film(path, waveform, rate, codec, *, container=None, start_s=0, picture_start_s=0):
    """Write a mono waveform as the sound of a film of 5 s, in which both begin at their times."""
    with av.open(path, "w", format=container) as out:
        picture = out.add_stream("mpeg4", rate=25, width=64, height=64, pix_fmt="yuv420p")
        sound = out.add_stream(codec, rate=rate, layout="mono")
        packets = []
        for k in range(125):
            frame = av.VideoFrame(64, 64, "yuv420p")
            frame.pts, frame.time_base = round(picture_start_s * 25) + k, Fraction(1, 25)
            packets += picture.encode(frame)
        samples = np.asarray(waveform, np.float32)
        frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.sample_rate, frame.pts = rate, round(start_s * rate)
        resampler = av.AudioResampler(format=sound.format, layout="mono", rate=rate)
        for converted in [*resampler.resample(frame), None]:
            packets += sound.encode(converted)
        packets += picture.encode(None)
        packets.sort(key=lambda packet: float((packet.dts or 0) * packet.time_base))
        for packet in packets:
            out.mux(packet)
