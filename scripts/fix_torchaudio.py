"""Let torchaudio import beside a CPU-only torch.

The x86-64 wheel of torchaudio 2.11 holds extensions linked against CUDA. Beside a CPU build of
torch `import torchaudio` dies on them ("libc10_cuda.so: cannot open shared object file"), and so
does transformers, which imports torchaudio wherever it is installed. Without those files torchaudio
takes its documented path for "no extension": all but forced alignment and the RNN-T loss works.

So each extension that this torch cannot load is removed from the environment (the installer's
cache keeps its copy). Where torch has CUDA or ROCm nothing is touched. Safe to run again.
"""

import importlib.util
from pathlib import Path

import torch


def unloadable_extensions() -> list[Path]:
    """torchaudio's shared libraries that this CPU build of torch cannot load."""
    found = importlib.util.find_spec("torchaudio")
    if found is None or torch.version.cuda is not None or torch.version.hip is not None:
        return []
    unloadable = []
    for library in sorted((Path(found.origin).parent / "lib").glob("*.so")):
        try:
            torch.ops.load_library(library)
        except OSError:
            unloadable.append(library)
    return unloadable


if __name__ == "__main__":
    for library in unloadable_extensions():
        library.unlink()
        print(f"torchaudio on CPU: removed {library.name}, which needs CUDA")
    import torchaudio  # noqa: F401  the proof
