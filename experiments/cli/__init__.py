"""From the words of a command line to the parts of a run."""
