"""Choose the decoder that hears all of a file, by what is in it.

A decoder's word about the length of a recording is compared with what the file holds by its own
structure: its bytes, the pages of an Ogg, the frames of an MP3 or a FLAC.
"""

import re
import stat
from contextlib import closing
from functools import partial
from pathlib import Path

from flamlib import decoders, mpeg, ogg
from flamlib.decoders import FFmpeg, Part, Sndfile, Undecodable

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
UNKNOWN_LENGTH = 2**32  # samples; libsndfile reports more for a header without a length

# Suffixes that say what is in a file, with the names that the decoders have for it.
_NAMES = {
    ".wav": ("WAV", "WAVEX", "RF64", "wav"),
    ".flac": ("FLAC", "flac"),
    ".mp3": ("MP3", "mp3"),
    ".ogg": ("OGG", "ogg"),
    ".oga": ("OGG", "ogg"),
    ".opus": ("OGG", "ogg"),
    ".aif": ("AIFF", "aiff"),
    ".aiff": ("AIFF", "aiff"),
    ".m4a": ("mov,mp4,m4a,3gp,3g2,mj2",),
    ".mp4": ("mov,mp4,m4a,3gp,3g2,mj2",),
    ".aac": ("aac",),
    ".webm": ("matroska,webm",),
    ".wma": ("asf",),
}
_BOTH_READ = ("aiff", "au", "caf", "flac", "mp3", "ogg", "voc", "w64", "wav")  # FFmpeg's names
_AGAIN = "copy it again from where it is whole"


def plan(path: Path) -> tuple[list[Part], list[str]]:
    """Return the parts of a recording, each with its decoder, and notes on what is wrong.

    Raises:
        Undecodable: No decoder reads all of it.
    """
    size = _size(path)
    try:
        first = Sndfile(path)
    except Undecodable as refusal:
        return _by_ffmpeg(path, str(refusal))
    with closing(first):
        notes = _misnamed(path, first.container)
        if first.container == "OGG":
            parts = _ogg_parts(path, notes)
        elif first.container == "MP3":
            parts = _mp3_parts(path, notes)
        elif first.container == "FLAC":
            parts = [_flac_part(path, first.n_claimed, notes)]
        elif not first.n_claimed:
            parts, _ = _by_ffmpeg(path, "holds no samples")
            notes.append(f"its header claims no samples in {size} bytes; heard to its end")
        else:
            parts = [Part(partial(Sndfile, path), first.n_claimed)]
            notes += _contradictions(first.log, size)
    if len(parts) > 1:
        notes.append(f"{len(parts)} recordings follow each other in it; heard as one")
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


def _by_ffmpeg(path, refusal):
    """Return the plan for a file that libsndfile refuses."""
    try:
        with closing(FFmpeg(path)) as first:
            n_promised = 0
            if first.duration_s is not None:
                n_promised = round((first.duration_s - 0.1) * first.sample_rate)
            if not len(first.read(1)):
                raise Undecodable("holds no samples")
            notes = _misnamed(path, first.container)
            if first.container in _BOTH_READ:
                notes.append(f"its header is damaged or not common ({refusal}); heard all the same")
            if first.container == "ogg" and any(s.hole is not None for s in ogg.streams(path)):
                raise Undecodable(f"damaged: a hole in it; {_AGAIN}")
    except Undecodable as error:
        why = str(error) if str(error) == refusal else f"{refusal.rstrip('.')} ({error})"
        raise Undecodable(why) from error
    return [Part(partial(FFmpeg, path), n_promised=n_promised)], notes


def _misnamed(path, container):
    names = _NAMES.get(path.suffix.lower(), (container,))
    if container in names:
        return []
    return [f"it is {container.split(',')[0]} inside, not what its name says"]


def _contradictions(log: str, size: int) -> list[str]:
    """Return notes on a header without which libsndfile finds its samples, but perhaps not all."""
    notes = []
    for claimed, found in re.findall(r"(?:data|SSND|Size)\s*: (\d+) \(should be (\d+)\)", log):
        if int(found) < int(claimed) < 0x7F000000:  # more: written to a pipe
            notes.append(
                f"its header promises {claimed} bytes of sound, {found} are there: cut off?"
            )
    for at in re.findall(r"arker .*at position (\d+).*Exiting parser", log):
        if size - int(at) > 1000:
            notes.append(f"what its last {size - int(at)} bytes are its header does not say")
    return notes


def _ogg_parts(path, notes):
    parts, streams = [], ogg.streams(path)
    for stream in streams:
        opened = partial(Sndfile, path, stream.start, stream.stop)
        with closing(opened()) as decoder:
            if stream.hole is not None:
                at_s = stream.hole / decoder.sample_rate
                raise Undecodable(f"damaged: a hole at about {at_s:.1f} s; {_AGAIN}")
            parts.append(Part(opened, n_promised=decoder.n_claimed))
    if not streams[-1].complete:
        notes.append("its last page is missing: cut off?")
    return parts


def _mp3_parts(path, notes):
    parts = []
    for stretch in mpeg.stretches(path):
        if stretch.hole_s is not None:
            raise Undecodable(f"damaged: a hole at about {stretch.hole_s:.2f} s; {_AGAIN}")
        n_least = stretch.n_samples - MP3_EDGES
        bounds = stretch.start, stretch.stop
        with closing(Sndfile(path, *bounds)) as decoder:
            claimed = decoder.n_claimed
        if claimed < n_least:  # libsndfile stops where it thinks the end is
            parts.append(Part(partial(FFmpeg, path, *bounds), n_least))
            if stretch.says_length:
                notes.append("its header promises less than there is; all of it is heard")
        else:
            promised = claimed if stretch.says_length else 0
            parts.append(Part(partial(Sndfile, path, *bounds), n_least, promised))
    return parts


def _flac_part(path, claimed, notes):
    n_samples = decoders.count_samples(path)
    if claimed == n_samples:
        return Part(partial(Sndfile, path), n_samples)
    # libsndfile stops at what is claimed, or cannot go so far.
    if claimed >= UNKNOWN_LENGTH:
        notes.append("its header does not say how long it is")
        claimed = 0
    elif claimed < n_samples:
        notes.append("its header promises less than there is; all of it is heard")
    return Part(partial(FFmpeg, path), n_samples, claimed)
