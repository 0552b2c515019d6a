"""The spec of an artifact kind: how a model becomes a file that backends load, and its nodes.

A file under ``kinds/`` registers a kind on import; so may a backend's own file, in this project or
in another package.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cspbench.core.options import Value
from cspbench.core.registry import Registry

if TYPE_CHECKING:
    from typing import TypeAlias

    import numpy as np
    import torch

    from cspbench.artifacts.reference import Reference
    from cspbench.artifacts.tensors import Feed
    from cspbench.models.inputs import TensorInput

    Example: TypeAlias = torch.Tensor | tuple[torch.Tensor, ...]

#: Suffix of the reference outputs that lie beside an artifact.
REFERENCE_SUFFIX = "npz"
#: Name of an empty entry among them: the model's branches depend on its input, and one was frozen.
FROZEN_BRANCH = "frozen_branch"
#: Suffix of the hashes of both.
HASHES_SUFFIX = "sha256"
#: Suffix of the names of what was read while a model was built.
READS_SUFFIX = "reads"
_SUFFIX = re.compile(r"[a-z0-9]{1,16}")


@dataclass(frozen=True)
class Node:
    """A node of an artifact's graph.

    ``producers`` are the numbers of the nodes that feed it. ``aliases`` are names of its outputs
    that a backend may use for it (an output of the whole graph has a name of its own).
    """

    name: str
    op: str
    producers: tuple[int, ...] = ()
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class ArtifactKind:
    """A form in which backends load models; its functions import heavy packages when called.

    ``export(module, example, path)`` writes a torch module in inference mode as one file, with the
    shapes of the example: a tensor, or a tuple of them for several inputs. It may raise
    Unsupported.

    ``inputs(path)`` are the inputs that an artifact states, in order; a kind without it has one
    image of three colours. A worker calls it, so it imports nothing heavy.

    ``nodes(path)`` are the nodes of an artifact in their order. By them the entries of a backend's
    layer profile are joined to the layers of an Analysis; without a reader they are not joined.

    ``identity()`` are facts besides torch's version that change the file of ``export``. They are
    part of the cache key of every artifact of the kind. It is called often and must be quick.

    ``import_file(file, path, first)`` serves sources whose file is of this kind already
    (``SourceSpec.artifact``): it writes the user's file to ``path`` with the shapes of ``first``
    (an array, or a tuple of them), and returns the model's outputs for it. It raises
    Unsupported or Unavailable.

    ``reference(path, feeds)`` computes the outputs of an imported artifact for several inputs,
    with which those of the backends are compared; without it those of ``import_file`` are.

    ``suffix`` is that of its files; the kind's name unless given.
    """

    name: str
    summary: str
    export: Callable[[torch.nn.Module, Example, Path], None] = field(compare=False)
    nodes: Callable[[Path], list[Node]] | None = field(default=None, compare=False)
    identity: Callable[[], Mapping[str, Value]] = field(default=dict, compare=False)
    import_file: Callable[[Path, Path, Feed], list[np.ndarray]] | None = field(
        default=None, compare=False
    )
    inputs: Callable[[Path], Sequence[TensorInput]] | None = field(default=None, compare=False)
    reference: Callable[[Path, Sequence[Feed]], Reference] | None = field(
        default=None, compare=False
    )
    suffix: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "suffix", self.suffix or self.name)
        own = (REFERENCE_SUFFIX, HASHES_SUFFIX, READS_SUFFIX)
        if not _SUFFIX.fullmatch(self.suffix) or self.suffix in own:
            raise ValueError(
                f"the suffix of artifact kind {self.name!r} must be 1 to 16 small letters and "
                f"digits and none of {', '.join(own)}, not {self.suffix!r}"
            )


ARTIFACTS: Registry[ArtifactKind] = Registry(
    "artifact kind", ("cspbench.artifacts.kinds", "cspbench.backends"),
    "cspbench.artifacts", "cspbench.backends",
)  # fmt: skip
