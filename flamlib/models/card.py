"""The model card of a saved model (README.md), made from its settings and its provenance."""

from collections.abc import Mapping
from typing import Any

# By kind of model: title, module and class.
_KINDS = {
    None: ("FLAM: a frame-wise language-audio model", "flamlib", "FLAM"),
    "mga_clap": ("MGA-CLAP: sound and text in one codebook", "flamlib.models.mga_clap", "MGACLAP"),
    "clap": ("CLAP: sound and text in one space", "flamlib.models.importers.originals", "CLAP"),
}

_TEXT = """\
# {title}

Says for every {frame_ms} ms of a recording how surely each of your captions sounds in it.

```python
from {module} import {name}

model = {name}.from_pretrained("FOLDER OR HUB ID")
score = model.score(waveform, sample_rate, ["a dog barks", "rain"])  # [clip, caption, frame]
```

A score of one half says that the frame tells nothing about the caption.

| | |
|---|---|
{facts}
"""


def text(
    config: Mapping[str, Any],
    *,
    kind: str | None,
    sample_rate: int,
    frame_s: float,
    n_parameters: int,
    provenance: Mapping[str, Any] | None,
) -> str:
    """Return the card in Markdown, with the YAML header that the Hugging Face hub reads.

    Args:
        config: Settings of the model, as in config.json.
        kind: Kind of model, as in config.json; None for FLAM.
        sample_rate: Of the audio tower, in hertz.
        frame_s: Duration of a frame in seconds.
        n_parameters: Number of weights.
        provenance: Content of training.json: `parameters`, `history` and `commit` of our own
            training, or the source of an import. Tables and lists are left out.
    """
    facts = {
        "audio tower": f"{config['audio']['tower']}, {sample_rate} Hz",
        "caption tower": f"{config['caption']['pooling']} of its last layer",
        "space": f"{config['dim']} dimensions"
        + (", and those of the tags" if config["audio"].get("tags") else ""),
        "parameters": f"{n_parameters / 1e6:.1f} million",
    }
    known = dict(provenance or {})
    history = known.pop("history", None)
    parameters = known.pop("parameters", {})
    facts |= {name: value for name, value in {**known, **parameters}.items() if _is_short(value)}
    if history:
        last = history[-1]
        facts["trained"] = f"{last['step']} steps, loss {last['loss']:.4g} at the last"
    if not provenance:
        facts["provenance"] = "unknown: it was saved without"
    header = {"library_name": "flamlib", "tags": ["audio", "sound-event-detection"]}
    title, module, name = _KINDS[kind]
    # Imported here: who loads a model writes no card.
    import yaml

    return f"---\n{yaml.safe_dump(header)}---\n\n" + _TEXT.format(
        title=title,
        module=module,
        name=name,
        frame_ms=f"{1000 * frame_s:.4g}",
        facts="\n".join(f"| {name} | {_cell(value)} |" for name, value in facts.items()),
    )


def _is_short(value: Any) -> bool:
    return isinstance(value, bool | int | float | str)


def _cell(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")
