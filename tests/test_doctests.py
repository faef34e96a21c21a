"""The examples in docstrings, of every module that has any."""

import doctest
import importlib
import re

import pytest

from tests.test_architecture import ROOT, module_name, modules

_EXAMPLE = re.compile(r">>> (?!.*# doctest: \+SKIP)")
EXAMPLES = [module_name(file.relative_to(ROOT)) for file in modules(ROOT) if _EXAMPLE.search(file.read_text())]


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted
    assert not result.failed
