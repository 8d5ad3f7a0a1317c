"""The names that the published weights have in detectron2, for each tensor of the network here."""

from __future__ import annotations

import re

# In order: where a pattern fits, later ones see what it made of the name.
_RULES = [
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^backbone\.fpn\.inner_blocks\.(\d)\.0\.", lambda m: f"backbone.fpn_lateral{int(m[1]) + 2}."),
        (r"^backbone\.fpn\.layer_blocks\.(\d)\.0\.", lambda m: f"backbone.fpn_output{int(m[1]) + 2}."),
        (r"^backbone\.body\.(conv1|bn1)\.", lambda m: f"backbone.bottom_up.stem.{m[1]}."),
        (r"^backbone\.body\.layer(\d)\.", lambda m: f"backbone.bottom_up.res{int(m[1]) + 1}."),
        (r"\.bn(\d)\.", lambda m: f".conv{m[1]}.norm."),
        (r"\.downsample\.0\.", lambda m: ".shortcut."),
        (r"\.downsample\.1\.", lambda m: ".shortcut.norm."),
    )
]


def detectron2_name(name: str) -> str:
    """Return the name that a tensor of `gl_ris.proposals.freesolo.network.FreeSOLONetwork` has in detectron2.

    Example:
        >>> detectron2_name("backbone.body.layer1.0.downsample.1.bias")
        'backbone.bottom_up.res2.0.shortcut.norm.bias'
        >>> detectron2_name("backbone.fpn.inner_blocks.3.0.weight")
        'backbone.fpn_lateral5.weight'
    """
    for pattern, replacement in _RULES:
        name = pattern.sub(replacement, name)
    return name
