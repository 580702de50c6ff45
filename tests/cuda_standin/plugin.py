"""A pytest plugin that puts a mutated source in the place of a kernel's: see mutants.py."""

from __future__ import annotations

import importlib
import os
import pathlib

import pytest


@pytest.fixture(autouse=True, scope="session")
def mutated_sources():
    """Set the variable `module:name` that STANDIN_MUTANT names to the folder of the mutated sources."""
    variable, _, folder = os.environ["STANDIN_MUTANT"].partition("=")
    module, _, name = variable.partition(":")
    setattr(importlib.import_module(module), name, pathlib.Path(folder))
