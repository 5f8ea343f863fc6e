"""The public surface: what `yadtq` and its public modules promise to export."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import yadtq

PUBLIC = ("yadtq", "yadtq.errors", "yadtq.settings", "yadtq.testing", "yadtq.embedded")


@pytest.mark.parametrize("name", PUBLIC)
def test_all_is_sorted_and_importable(name):
    module = importlib.import_module(name)
    exported = module.__all__
    assert exported == sorted(exported)
    assert len(set(exported)) == len(exported)
    for attribute in exported:
        assert getattr(module, attribute) is not None


def test_every_module_names_only_what_it_has():
    for found in pkgutil.walk_packages(yadtq.__path__, "yadtq."):
        module = importlib.import_module(found.name)
        for attribute in getattr(module, "__all__", ()):
            assert hasattr(module, attribute), f"{found.name} has no {attribute}"


def test_every_error_is_under_the_one_root():
    from yadtq import errors

    for name in errors.__all__:
        assert issubclass(getattr(errors, name), errors.YadtqError)


def test_the_package_says_that_it_is_typed():
    from importlib import resources

    assert resources.files("yadtq").joinpath("py.typed").is_file()
