"""How settings are read: from keywords, else the environment, else a file that the environment names, else defaults.

The only reader of `YADTQ_*`. Secrets never appear in what it shows: not in `repr`, and not in an error message.
"""

from __future__ import annotations

import difflib
import os
import re
import types
import typing
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from yadtq.errors import ConfigError
from yadtq.shown import shown, shown_address, shown_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic.fields import FieldInfo

__all__ = ["FILE", "EnvironmentSettings"]

#: Ends the name of a variable that names a file with the secret.
FILE = "_FILE"
#: Variables with our prefix that other parts read: tests, what a supervisor passes to its workers, the command line.
_FOREIGN = ("YADTQ_TEST_", "YADTQ_SLOT", "YADTQ_PIPE", "YADTQ_APP")
#: Variables that Kubernetes sets in every container for a Service whose name begins with "yadtq": addresses, not
#: settings.
_KUBERNETES = re.compile(
    r"YADTQ(_\w+)?_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_KUBERNETES_PORT = re.compile(r"YADTQ(_\w+)?_PORT=(tcp|udp|sctp)://.*")
#: Seconds and counts above this are mistakes, and would overflow as milliseconds: 31 years.
_MOST = 1e9
#: Bytes of a secret's file: a wrong path may name a large one.
_LARGEST_SECRET = 64 * 1024


class EnvironmentSettings(BaseSettings):
    """A group of settings with one prefix. Each subclass is known from then on: other `YADTQ_*` variables are errors."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    #: Settings whose text may contain a secret. Those of type `SecretStr` need not be named.
    secrets: ClassVar[frozenset[str]] = frozenset()
    #: Settings that are objects: only keywords can give them.
    in_code: ClassVar[frozenset[str]] = frozenset()
    _groups: ClassVar[list[type[EnvironmentSettings]]] = []

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        EnvironmentSettings._groups.append(cls)

    @classmethod
    def variable(cls, name: str) -> str:
        """The environment variable of a setting."""
        return f"{cls.model_config.get('env_prefix', '')}{name}".upper()

    @classmethod
    def variables(cls) -> dict[str, str]:
        """Each variable that is read, with the setting that it gives. Those of files are among them."""
        named = {cls.variable(name): name for name in cls.model_fields if name not in cls.in_code}
        return {**named, **{variable + FILE: name for variable, name in named.items() if cls.is_secret(name)}}

    @classmethod
    def is_secret(cls, name: str) -> bool:
        """Whether its value must not be shown. It may also come from a file."""
        field = cls.model_fields.get(name)
        return name in cls.secrets or (field is not None and SecretStr in _parts(field.annotation))

    @field_validator("*")
    @classmethod
    def _bounded(cls, value: object) -> object:
        if isinstance(value, int | float) and value > _MOST:
            raise ValueError(f"at most {_MOST:,.0f}")
        if isinstance(value, SecretStr) and not value.get_secret_value():
            raise ValueError("is empty")
        return value

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, shown_address(value) if name in self.secrets and isinstance(value, str) else value

    @classmethod
    def settings_customise_sources(  # type: ignore[override]  # the other sources are not wanted
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, **_: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """pydantic-settings asks here where values come from."""
        return init_settings, _Variables(settings_cls)

    @classmethod
    def load(cls, **given: Any) -> Self:
        """Build from keywords (None means: not given), environment and defaults. Raises a one-line `ConfigError`."""
        _refuse_unknown_variables(os.environ)
        try:
            return cls(**{name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            raise ConfigError("; ".join(map(cls._described, error.errors()))) from None
        except SettingsError as error:
            raise ConfigError(str(error).splitlines()[0]) from None

    @classmethod
    def _described(cls, problem: Mapping[str, Any]) -> str:
        name = ".".join(str(part) for part in problem["loc"])
        text = str(problem["msg"]).removeprefix("Value error, ")
        if not name:
            return text
        if name not in cls.model_fields:  # its value may be a secret under a misspelt name
            close = difflib.get_close_matches(name, cls.model_fields, n=1)
            return f"{shown(name)}: there is no such setting" + (f"; did you mean {close[0]}?" if close else "")
        where = f"{name} ({cls.variable(name)})"
        value = shown(problem["input"], 10**9)  # `str` raises for an int of 5,000 digits
        if cls.is_secret(name) or name in cls.in_code or "://" in value or "@" in value:
            return f"{where}: {text}"
        return f"{where}: {text}, got {shown_value(problem['input'])}"


class _Variables(PydanticBaseSettingsSource):
    """The environment as a source: of `YADTQ_X`, and for a secret also of the file that `YADTQ_X_FILE` names.

    Values stay text, also for lists: each field reads its own.
    """

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Required by pydantic-settings."""
        return self().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        model = typing.cast("type[EnvironmentSettings]", self.settings_cls)
        found: dict[str, Any] = {}
        for variable, name in model.variables().items():
            if variable not in os.environ:
                continue
            if name in found:
                raise ConfigError(f"{variable} and {variable.removesuffix(FILE)} are both set: keep one of them")
            is_file = variable.endswith(FILE) and variable != model.variable(name)
            found[name] = _read(variable) if is_file else os.environ[variable]
        return found


def _read(variable: str) -> str:
    """What the file contains, without the line end that editors add."""
    path = os.environ[variable]
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST_SECRET + 1)
        text = data.decode().removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise ConfigError(f"{variable}: {shown(path)} can't be read: {error.strerror}") from None
    except ValueError:
        raise ConfigError(f"{variable}: {shown(path)} is not text in UTF-8") from None
    if not text or len(data) > _LARGEST_SECRET:
        raise ConfigError(f"{variable}: {shown(path)} is {'too large for a secret' if text else 'empty'}")
    return text


def _parts(annotation: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if is_union else (annotation,)


def _refuse_unknown_variables(environ: Mapping[str, str]) -> None:
    """A misspelt setting that is silently ignored would only be noticed in production."""
    groups = EnvironmentSettings._groups
    known = {variable for group in groups for variable in group.variables()}
    in_code = {group.variable(name): name for group in groups for name in group.in_code}
    for variable in environ:
        if not variable.startswith("YADTQ_") or variable in known or variable.startswith(_FOREIGN):
            continue
        if variable in in_code:
            name = in_code[variable]
            raise ConfigError(f"{variable}: only code can give {name}, as in Yadtq('shop', {name}=...)")
        if not (_KUBERNETES.fullmatch(variable) or _KUBERNETES_PORT.fullmatch(f"{variable}={environ[variable]}")):
            close = difflib.get_close_matches(variable, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ConfigError(f"unknown environment variable {shown(variable)}{hint}")
