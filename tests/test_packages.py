"""What documents tell to run is in the packages that are installed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from setuptools import find_packages

ROOT = Path(__file__).parents[1]


def test_every_module_that_documents_name_is_installed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    find = settings["tool"]["setuptools"]["packages"]["find"]
    packages = find_packages(str(ROOT), include=find["include"])
    pages = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("gl_ris/assets/**/*.md"),
    ]
    texts = [page.read_text(encoding="utf-8") for page in pages]
    named = {name for text in texts for name in re.findall(r"python -m ([a-z]\w+(?:\.[a-z_]+)+)\b", text)}
    assert {"experiments.zero_shot", "datamodules.download"} <= named
    # CONTRIBUTING is for those who have a checkout, and with it the tests
    for name in named - {"spacy.download", "tests.fuzz"}:
        package, _, module = name.rpartition(".")
        assert package in packages, f"python -m {name} is named, but {package} is not in the wheel"
        assert (ROOT / package.replace(".", "/") / f"{module}.py").is_file(), name
