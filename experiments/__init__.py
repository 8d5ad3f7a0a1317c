"""One file per command; `experiments.cli.parts` is shared by all of them."""
