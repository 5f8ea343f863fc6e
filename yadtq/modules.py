"""Imports the modules that an app names, and says in one line what is wrong with one of them."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import traceback
from typing import TYPE_CHECKING

from yadtq.errors import ConfigError
from yadtq.shown import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import ModuleType

__all__ = ["checked_names", "exists", "import_all"]


def checked_names(include: Iterable[str]) -> tuple[str, ...]:
    """Names of modules. Raises `ConfigError`."""
    names = (include,) if isinstance(include, str) else tuple(include)
    for name in names:
        if not _is_dotted(name):
            raise ConfigError(f"include: expected names of modules, like 'shop.tasks.mail', not {name!r}")
    return names


def exists(name: str) -> bool:
    """Whether there is such a module, which may be broken. Imports the packages around it."""
    try:
        return _is_dotted(name) and importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def import_all(names: Iterable[str]) -> list[ModuleType]:
    """A package stands for itself and all modules in it, those named `test...` or `conftest` aside.

    Raises `ConfigError` for a module that can't be imported.
    """
    return [module for name in names for module in _with_submodules(_imported(name))]


def _with_submodules(module: ModuleType) -> Iterator[ModuleType]:
    yield module
    for found in pkgutil.iter_modules(getattr(module, "__path__", ()), f"{module.__name__}."):
        last = found.name.rpartition(".")[2]
        if not last.startswith("test") and last not in ("__main__", "conftest"):
            yield from _with_submodules(_imported(found.name))


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ConfigError as error:
        raise ConfigError(f"include: {name}: {error}") from error
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigError(f"include: no module named {name!r} here ({error.name!r} was not found)") from None
        raise _broken(name, error) from error
    except Exception as error:  # it is the user's code that runs
        raise _broken(name, error) from error


def _broken(name: str, error: Exception) -> ConfigError:
    if isinstance(error, ImportError | AttributeError) and "partially initialized module" in str(error):
        reason = (
            "a circular import: modules with tasks import the app, so the app's module must not import them; "
            "their names in `include` are enough"
        )
    else:
        reason = shown(f"{type(error).__name__}: {error}".partition("\n")[0])
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_machinery(frame.filename)]
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return ConfigError(f"include: module {name!r} can't be imported: {reason}{where}")


def _is_machinery(filename: str) -> bool:
    return filename.startswith("<frozen") or filename in (__file__, importlib.__file__)


def _is_dotted(name: object) -> bool:
    return isinstance(name, str) and all(part.isidentifier() for part in name.split("."))
