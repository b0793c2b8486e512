"""Choose the decoder that hears all of a file, by what is in it.

A decoder's word about the length of a recording is compared with what the file holds by its own
structure: its bytes, the pages of an Ogg, the frames of an MP3 or a FLAC.
"""

import re
import stat
from contextlib import closing
from functools import partial
from pathlib import Path

from flamlib.waveforms import chunks, decoders, mpeg, ogg
from flamlib.waveforms.chain import Part
from flamlib.waveforms.decoders import AGAIN, FFmpeg, Silence, Sndfile, Undecodable

_SNDFILE = (
    ".8svx .aif .aifc .aiff .au .avr .caf .flac .iff .ircam .mp2 .mp3 .nist .oga .ogg .opus .paf "
    ".pvf .rf64 .sds .sf .snd .sph .svx .voc .w64 .wav .wave .wve .xi"
)
_FFMPEG = (
    ".3g2 .3gp .aac .ac3 .amr .ape .asf .avi .dsf .dts .eac3 .flv .m4a .m4b .mka .mkv .mov .mp4 "
    ".mpc .mpeg .mpg .spx .tak .tta .webm .wma .wv"
)
# Without a header, locked, or not known to either.
_UNHEARD = ".aax .m4p .pcm .ra .raw .rm .sd2 .vox"

SUFFIXES = frozenset(f"{_SNDFILE} {_FFMPEG}".split())
OTHER_SUFFIXES = frozenset(_UNHEARD.split())

MP3_EDGES = 8192  # samples at the ends of an MP3 that are its encoder's delay, at most
MP3_FRAME = 1152  # samples: the end of an MP3, which no recording fills
MOST_TAGS = 1000  # bytes behind the sound that are no cause for a note
UNKNOWN_LENGTH = 2**32  # samples; libsndfile reports more for a header without a length

# Suffixes that say what is in a file, by the names that libsndfile and FFmpeg have for it.
_KINDS = {
    "WAV WAVEX RF64 wav": ".wav .wave .rf64",
    "FLAC flac": ".flac",
    "MP3 mp3": ".mp2 .mp3",
    "OGG ogg": ".oga .ogg .opus .spx",
    "AIFF aiff": ".aif .aifc .aiff .iff",
    "SVX": ".8svx .iff .svx",
    "AU au": ".au .snd",
    "CAF caf": ".caf",
    "VOC voc": ".voc",
    "W64 w64": ".w64",
    "NIST": ".nist .sph",
    "IRCAM": ".ircam .sf",
    **{name: f".{name.lower()}" for name in ("AVR", "PAF", "PVF", "SDS", "WVE", "XI")},
    "mov,mp4,m4a,3gp,3g2,mj2": ".3g2 .3gp .m4a .m4b .mov .mp4",
    "matroska,webm": ".mka .mkv .webm",
    "aac loas": ".aac",
    "ac3 eac3": ".ac3 .eac3",
    "asf": ".asf .wma",
    "dts dtshd": ".dts",
    "mpc mpc8": ".mpc",
    "mpeg mpegts": ".mpeg .mpg",
    **{name: f".{name}" for name in ("amr", "ape", "avi", "dsf", "flv", "tak", "tta", "wv")},
}
_BOTH_READ = ("aiff", "au", "caf", "flac", "mp3", "ogg", "voc", "w64", "wav")  # FFmpeg's names
_WIDTHS = {"PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}
_STREAMED = 0x7F000000  # bytes: what writes to a pipe claims that much or more


def plan(path: Path) -> tuple[list[Part], list[str]]:
    """Return the parts of a recording, each with its decoder, and notes on what is wrong.

    Raises:
        Undecodable: No decoder reads all of it.
    """
    size = _size(path)
    end = chunks.end(path)
    span, joined = None, end is not None and end < size and chunks.joined(path, end)
    if joined:
        span = [(0, end)]
    try:
        first = Sndfile(path, span)
    except Undecodable as refusal:
        parts, notes = _by_ffmpeg(path, str(refusal), span, cut=end is not None and end > size)
        return parts, notes + _behind(path, end, size, joined)
    with closing(first):
        notes = _misnamed(path, first.container)
        if first.container == "OGG":
            parts = _ogg_parts(path, notes)
        elif first.container == "MP3":
            parts = _mp3_parts(path, notes)
        elif first.container == "FLAC":
            parts = [_flac_part(path, first.n_claimed, notes)]
        elif not first.n_claimed:
            parts, _ = _by_ffmpeg(path, "holds no samples", span)
            notes.append(f"its header claims no samples in {size} bytes; heard to its end")
        else:
            parts = [Part(partial(Sndfile, path, span), first.n_claimed)]
            notes += _contradictions(first)
            notes += _behind(path, end, size, joined) if joined or not notes else []
    return parts, notes


def _size(path):
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise Undecodable(getattr(error, "strerror", None) or str(error)) from error
    if stat.S_ISDIR(status.st_mode):
        raise Undecodable("is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise Undecodable("is no regular file; write what it gives to a file first")
    if not status.st_size:
        raise Undecodable("is empty: 0 bytes")
    return status.st_size


def _behind(path, end, size, joined):
    """Return notes on what lies behind the end of a recording in its file."""
    if joined:
        return [f"another recording follows it: its last {size - end} bytes are not heard"]
    if end is not None and size - end > MOST_TAGS:
        return [f"its last {size - end} bytes, behind the end of its sound, are not heard"]
    return []


def _by_ffmpeg(path, refusal, span=None, *, cut=False):
    """Return the plan for a file, or a range of it, that libsndfile refuses."""
    try:
        with closing(FFmpeg(path, span)) as first:
            n_promised = 0
            if first.duration_s is not None:
                n_promised = round((first.duration_s - 0.1) * first.sample_rate)
            if not len(first.read(1)):
                raise Undecodable("holds no samples")
            notes = _misnamed(path, first.container)
            if cut and not n_promised:
                notes.append("less than what its header promises is there: cut off?")
            elif first.container in _BOTH_READ and "encoding" not in refusal:
                notes.append(f"its header is damaged or not common ({refusal}); heard all the same")
            if first.container == "mp3":  # that begins with something else
                return _mp3_parts(path, notes), notes
            if first.container == "ogg" and any(len(s.ranges) > 1 for s in ogg.streams(path)):
                raise Undecodable(f"damaged: a hole in it; {AGAIN}")
    except Undecodable as error:
        if str(error) == refusal:
            raise
        raise Undecodable(
            f"damaged or no recording: neither libsndfile ({refusal.rstrip('.')}) nor FFmpeg "
            f"({error}) reads it"
        ) from error
    return [Part(partial(FFmpeg, path, span), n_promised=n_promised)], notes


def _misnamed(path, container):
    suffix = path.suffix.lower()
    said = [names for names, suffixes in _KINDS.items() if suffix in suffixes.split()]
    if not said or any(container in names.split() for names in said):
        return []
    return [f"it is {container.split(',')[0]} inside, not what its name says"]


def _contradictions(file):
    """Return notes on a header that claims other than what libsndfile finds, by its own log."""
    notes = []
    width = file.n_channels * _WIDTHS.get(file.encoding, 0)
    claims = re.findall(r"(?:data|SSND|BODY|Data Size) *: (\d+) \(should be (\d+)\)", file.log)
    claims += [(n, file.n_claimed) for n in re.findall(r"^ *Frames *: (\d+)", file.log, re.M)]
    if file.container == "W64" and width:  # whose sizes count the chunk's own head
        n_bytes = [int(n) - 24 for n in re.findall(r"^data *: (\d+)", file.log, re.M)]
        claims += [(n // width, file.n_claimed) for n in n_bytes]
    for claimed, found in claims:
        if int(found) < int(claimed) < _STREAMED:
            share = int(found) / int(claimed)
            notes.append(f"{share:.1%} of what its header promises are there: cut off?")
        elif int(claimed) < int(found):
            notes.append("there is more in it than its header promises; all of it is heard")
    if "Seems to be a truncated file" in file.log:
        notes.append("less than what its header promises is there: cut off?")
    return notes[:1]


def _ogg_parts(path, notes):
    parts, streams = [], ogg.streams(path)
    if not streams:
        raise Undecodable("damaged: no page of Ogg in it is whole")
    for stream in streams:
        for k, span in enumerate(stream.ranges):
            opened = partial(Sndfile, path, [stream.head, span] if k else [span])
            with closing(opened()) as decoder:
                rate, n_channels, n_claimed = (
                    decoder.sample_rate,
                    decoder.n_channels,
                    decoder.n_claimed,
                )
                per_granule = rate / 48000 if decoder.encoding == "OPUS" else 1
            if k:
                n_passed = round((stream.granules[k] - stream.granules[k - 1]) * per_granule)
                n_missing = max(0, n_passed - n_claimed)
                at_s = stream.granules[k - 1] * per_granule / rate
                notes.append(decoders.missing(n_missing / rate, at_s))
                parts.append(Part(partial(Silence, n_missing, rate, n_channels)))
            parts.append(Part(opened, n_promised=n_claimed))
    if len(streams) > 1:
        notes.append(f"{len(streams)} recordings follow each other in it; heard as one")
    if not streams[-1].complete:
        notes.append("its last page is missing: cut off?")
    return parts


def _mp3_parts(path, notes):
    parts, stretches = [], mpeg.stretches(path)
    if not stretches:
        raise Undecodable("damaged or no recording: no frames of MP3 in it")
    for stretch in stretches:
        if stretch.hole_s is not None:
            raise Undecodable(f"damaged: a hole at about {stretch.hole_s:.2f} s; {AGAIN}")
        n_least = stretch.n_samples - MP3_EDGES
        span = (stretch.start, stretch.stop)
        span = None if span == (0, path.stat().st_size) else [span]
        with closing(Sndfile(path, span)) as decoder:
            claimed = decoder.n_claimed
        # libsndfile stops where it thinks the end is.
        if claimed < (n_least if stretch.says_length else stretch.n_samples - MP3_FRAME):
            parts.append(Part(partial(FFmpeg, path, span), n_least))
            if stretch.says_length:
                notes.append("its header promises less than there is; all of it is heard")
        else:
            promised = claimed if stretch.says_length else 0
            parts.append(Part(partial(Sndfile, path, span), n_least, promised))
        if not stretch.complete:
            notes.append("its last frame is not all there: cut off?")
    if len(parts) > 1:
        notes.append(f"{len(parts)} recordings follow each other in it; heard as one")
    return parts


def _flac_part(path, claimed, notes):
    try:
        n_samples = decoders.count_samples(path)
    except Undecodable:
        if claimed >= UNKNOWN_LENGTH:
            raise
        n_samples = claimed  # on libsndfile's word, which refuses what is damaged
    if claimed == n_samples:
        return Part(partial(Sndfile, path), n_samples)
    # libsndfile stops at what is claimed, or cannot go so far.
    if claimed >= UNKNOWN_LENGTH:
        notes.append("its header does not say how long it is")
        claimed = 0
    elif claimed < n_samples:
        notes.append("its header promises less than there is; all of it is heard")
    return Part(partial(FFmpeg, path), n_samples, claimed)
