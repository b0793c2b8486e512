"""Events of a recording as JAMS, the JSON of music and sound annotation (Humphrey et al. 2014).

Scaper, sed_eval's users and many annotation tools read it. An event is an observation of the
namespace `tag_open`: time, duration, the caption as its value.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flamlib import files
from flamlib.events import Event


def to_jams(
    events: Iterable[Event], duration_s: float | int, *, title: str, sandbox: Mapping[str, Any]
) -> str:
    """The JSON text. `sandbox` is what else the file tells of itself: a mixture its recipe.

    Raises ValueError for an event that is not within the recording.
    """
    import jams  # seconds to import, for whoever writes a file of this kind

    whole = jams.JAMS()
    whole.file_metadata.duration = float(duration_s)
    whole.file_metadata.title = title
    whole.sandbox.update(**sandbox)
    annotation = jams.Annotation(namespace="tag_open", time=0.0, duration=float(duration_s))
    annotation.annotation_metadata.annotation_tools = "flamlib"
    for onset, offset, caption in events:
        # Half a sample of grace: an event may end with the recording.
        if not 0 <= onset < offset <= duration_s + 1e-4:
            raise ValueError(f"{title}: an event from {onset} to {offset} s of {duration_s} s")
        annotation.append(time=onset, duration=offset - onset, value=caption, confidence=1.0)
    whole.annotations.append(annotation)
    whole.validate()
    return whole.dumps(indent=1)


def read_jams(path: str | Path) -> list[Event]:
    """The events of every annotation in `tag_open`. Raises ValueError for what is no JAMS file."""
    import jams

    try:
        whole = jams.load(str(path), validate=True)
    except (jams.JamsError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: no JAMS file ({error})") from error
    return [
        Event(float(found.time), float(found.time + found.duration), found.value)
        for annotation in whole.search(namespace="tag_open")
        for found in annotation.data
    ]


def write_jams(
    path: str | Path,
    events: Iterable[Event],
    duration_s: float | int,
    *,
    sandbox: Mapping[str, Any],
) -> None:
    """Write the file NAME.jams of a recording NAME."""
    files.atomic_write(
        path, to_jams(events, duration_s, title=Path(path).stem, sandbox=sandbox) + "\n"
    )
