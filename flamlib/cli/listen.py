"""The command of `flam` that finds events in sound as it comes: listen."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flamlib.cli.aside import say
from flamlib.cli.ask_model import add_questions, check_captions, loaded
from flamlib.cli.detect import pcm_format
from flamlib.cli.errors import UsageError
from flamlib.waveforms import streams

if TYPE_CHECKING:
    import numpy as np

_READ_S = 0.1  # audio that is read at a time


def add_listen(listen: argparse.ArgumentParser) -> None:
    """Add the arguments of `flam listen`."""
    listen.description = _listen.__doc__
    listen.set_defaults(run=_listen)
    listen.add_argument(
        "source",
        nargs="?",
        metavar="-",
        help="- for standard input, a WAV or, with --pcm, raw samples (default: the microphone, by "
        "the package sounddevice)",
    )
    listen.add_argument(
        "--pcm",
        type=pcm_format,
        metavar="ENCODING:RATE[:CHANNELS]",
        help="standard input is raw samples, such as s16le:16000:1",
    )
    add_questions(listen)


def _listen(args: argparse.Namespace) -> None:
    """Find events in sound as it comes, from a pipe or a microphone, until it ends or Ctrl-C.
    Prints each event once, as it is over: onset and offset in seconds from the start, caption and
    score."""
    check_captions(args)
    if args.source not in (None, "-"):
        raise UsageError(
            f"{args.source}: sound is heard as it comes, from standard input, -, or the "
            "microphone; flam detect hears files"
        )
    if args.pcm is not None and args.source is None:
        raise UsageError("--pcm says what standard input is: flam listen - --pcm ...")
    if args.source is None:
        _sounddevice()  # before the model is loaded
    with loaded(args) as (model, questions, embedded, notes):
        from flamlib.inference.listener import Listener

        if questions.top is not None or questions.channel is not None:
            raise UsageError("top and channel of --load-params are for recordings")
        with _source(args, model.sample_rate) as (rate, blocks):
            listener = Listener(model, questions, rate, embedded=embedded)
            say(
                *notes,
                f"an event is told at most {listener.latency_s:.2g} s after its last frame "
                "and the gap that --merge-gap allows",
            )
            print("onset\toffset\tevent_label\tscore", flush=True)
            trouble = None
            try:
                for block in blocks:
                    _print(listener.feed(block))
            except KeyboardInterrupt:  # the usual end
                say("stopped")
            except (UsageError, streams.StreamError) as error:
                trouble = error  # told after the events of what was heard
            _print(listener.finish())
            if trouble is not None:
                raise trouble


@contextmanager
def _source(
    args: argparse.Namespace, model_rate: int
) -> Iterator[tuple[int, Iterator["np.ndarray"]]]:
    """The sample rate, and mono samples as they come."""
    if args.source is None:
        with _microphone(model_rate) as blocks:
            yield model_rate, blocks
        return
    file = sys.stdin.buffer
    try:
        pcm = args.pcm or streams.read_wav_header(file)
    except streams.StreamError as error:
        raise UsageError(f"standard input: {error}") from None
    n = max(1, round(_READ_S * pcm.sample_rate))
    yield pcm.sample_rate, (block.mean(axis=1) for block in streams.blocks(file, pcm, n))


def _sounddevice() -> Any:
    """Import what reads microphones."""
    try:
        import sounddevice
    except (ModuleNotFoundError, OSError) as error:
        # The package is there, but not the library that it calls.
        is_library = isinstance(error, OSError)
        package = "apt install libportaudio2" if is_library else 'pip install "flamlib[live]"'
        raise UsageError(
            f"the microphone needs sounddevice ({error}): {package}, or pipe the sound into "
            "flam listen -"
        ) from None
    return sounddevice


@contextmanager
def _microphone(rate: int) -> Iterator[Iterator["np.ndarray"]]:
    sounddevice = _sounddevice()

    def read(stream: Any) -> Iterator["np.ndarray"]:
        n_read = n_lost = 0
        while True:
            try:
                samples, is_lost = stream.read(round(_READ_S * rate))
            except sounddevice.PortAudioError as error:
                raise UsageError(f"the microphone stopped: {error}") from error
            n_lost += is_lost and n_read > 0  # the first has waited for the model
            n_read += 1
            if is_lost and n_lost == 1:
                say("sound was lost, heard too slowly here: from now on times are too early")
            yield samples[:, 0]

    try:
        stream = sounddevice.InputStream(samplerate=rate, channels=1, dtype="float32")
    except (sounddevice.PortAudioError, ValueError) as error:  # ValueError: no such device
        raise UsageError(f"no microphone: {error}") from error
    with stream:
        yield read(stream)


def _print(found) -> None:
    for event in found:
        print(
            f"{event.onset:.2f}\t{event.offset:.2f}\t{event.caption}\t{event.score:.3f}", flush=True
        )
