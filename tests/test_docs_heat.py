"""What docs/heat.md promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from experiments.reporting.results_file import read_results  # noqa: F401
