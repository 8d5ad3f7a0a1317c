"""One file per command; `experiments.cli` is shared by all of them."""
