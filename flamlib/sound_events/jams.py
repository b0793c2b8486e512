"""Events of a recording as JAMS, the JSON of music and sound annotation (Humphrey 2014).

Scaper, the users of sed_eval and many annotation tools read it. An event is an observation of the
namespace `tag_open`: time, duration, and the caption as its value.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flamlib.sound_events.events import Event
from flamlib.sound_events.raw_events import GRACE_S
from flamlib.storage import files
from flamlib.storage.tables import Row


def write_jams(
    path: str | Path,
    events: Iterable[Event],
    duration_s: float | int,
    *,
    sandbox: Mapping[str, Any],
) -> None:
    """Write the events of the recording NAME to the file NAME.jams.

    Args:
        path: the file to write.
        events: events of the recording, in seconds.
        duration_s: length of the recording.
        sandbox: further information that the file carries, such as the recipe of a mixture.

    Raises:
        ValueError: an event is not within the recording.
    """
    import jams  # takes seconds to import

    title = Path(path).stem
    content = jams.JAMS()
    content.file_metadata.duration = float(duration_s)
    content.file_metadata.title = title
    content.sandbox.update(**sandbox)
    annotation = jams.Annotation(namespace="tag_open", time=0.0, duration=float(duration_s))
    annotation.annotation_metadata.annotation_tools = "flamlib"
    for onset, offset, caption in events:
        if not 0 <= onset < offset <= duration_s + GRACE_S:
            raise ValueError(f"{title}: an event from {onset} to {offset} s of {duration_s} s")
        annotation.append(time=onset, duration=offset - onset, value=caption, confidence=1.0)
    content.annotations.append(annotation)
    content.validate()
    files.atomic_write(path, content.dumps(indent=1) + "\n")


def observations(path: Path) -> dict[str, list[Mapping]]:
    """Return the observations of a file by their namespace.

    Raises UnicodeDecodeError, ValueError, KeyError, TypeError or RecursionError for other content.
    """
    by_namespace = defaultdict(list)
    for annotation in json.loads(path.read_text(encoding="utf-8-sig"))["annotations"]:
        by_namespace[annotation["namespace"]] += annotation["data"]
    return by_namespace


def rows(path: Path, observations: Iterable[Mapping], namespace: str) -> Iterator[Row]:
    """Yield the time, duration and label of observations; of scaper's those in the foreground.

    Raises KeyError or TypeError for what is none of this namespace.
    """
    if namespace != "tag_open":
        observations = [each for each in observations if each["value"]["role"] == "foreground"]
    for number, observation in enumerate(observations):
        value = observation["value"]
        value = value if namespace == "tag_open" else value["label"]
        if not isinstance(value, str):
            raise TypeError(f"the label of event {number} is no text: {value!r}")
        times = {"onset": str(observation["time"]), "duration": str(observation["duration"])}
        yield Row(f"{path}, event {number}", times | {"event_label": value})
