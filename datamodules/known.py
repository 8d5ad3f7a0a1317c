"""Every data module, imported so that the command line knows the classes by their short names."""

import datamodules

for _name in datamodules.__all__:
    getattr(datamodules, _name)
