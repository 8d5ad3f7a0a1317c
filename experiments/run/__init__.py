"""From the parts of a run to a finished run folder."""
