"""Reads the settings from a YAML file and, key by key, from the environment, which wins."""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ValidationError

from pushrail_stream.errors import UsageError
from pushrail_stream.files import read_regular_file, reason_of
from pushrail_stream.settings.model import Settings
from pushrail_stream.settings.problems import did_you_mean, sentence

CONFIG_VARIABLE: Final = "PUSHRAIL_CONFIG"
DEFAULT_PATH: Final = Path("config/pushrail.yaml")
_PREFIX: Final = "PUSHRAIL_"
_PATHS: Final = (("registry", "path"), ("secrets", "keyring"), ("history", "index"), ("ingest", "keys_file"))
_NO_PATH: Final = ("env:", "aws-kms:")
"""Beginnings of a keyring that is no file."""

Key = tuple[str, ...]
"""``("vendor",)`` or ``("kafka", "group_id")``."""

_CLIENT: Final[Key] = ("kafka", "client")


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings, the file they were read from if any, and the origin of each key that is not its default."""

    settings: Settings
    path: Path | None
    origins: Mapping[str, str] = field(default_factory=dict)
    """``kafka.group_id`` to the file's path or the variable's name."""


def load_settings(path: Path | None = None) -> Settings:
    """The effective settings, as `read_settings` reads them."""
    return read_settings(path).settings


def read_settings(path: Path | None = None) -> LoadedSettings:
    """Read ``path``, else ``PUSHRAIL_CONFIG``, else `DEFAULT_PATH` when it exists; then the environment.

    A key set in the environment replaces the file's as a whole, mappings included. Paths become absolute: those of
    variables from the working directory, all others from the file's folder, or `DEFAULT_PATH`'s without a file. Raises
    `UsageError`.
    """
    found = path or _configured_path()
    values = _read_yaml(found.absolute()) if found is not None else {}
    origins = dict.fromkeys(_keys_of(values), str(found))
    variables = _variables()
    for key, value in _environment(variables).items():
        _set(values, key, value)
        origins[key] = variables[key]
    try:
        # A section that is absent is validated as an empty one: its defaults alone would be built once more.
        empty: dict[str, object] = {name: {} for name, section in _sections().items() if section is not None}
        settings = Settings.model_validate(empty | values)
    except ValidationError as error:
        file = "settings" if found is None else str(found.absolute())
        raise UsageError(*(_line(problem, file, variables) for problem in error.errors())) from None
    folder = (found or DEFAULT_PATH).absolute().parent
    bases = {key: Path.cwd() if key in variables else folder for key in (*_PATHS, _CLIENT)}
    return LoadedSettings(
        _with_absolute_paths(settings, bases), found, {".".join(key): origin for key, origin in origins.items()}
    )


def _with_absolute_paths(settings: Settings, bases: Mapping[Key, Path]) -> Settings:
    sections: dict[str, dict[str, object]] = {
        "kafka": {"client": settings.kafka.client.with_absolute_paths(bases[_CLIENT])}
    }
    for section, name in _PATHS:
        value = getattr(getattr(settings, section), name)
        if value is not None and not str(value).startswith(_NO_PATH):
            sections.setdefault(section, {})[name] = type(value)(bases[section, name] / value)
    return settings.model_copy(
        update={section: getattr(settings, section).model_copy(update=values) for section, values in sections.items()}
    )


def _configured_path() -> Path | None:
    named = os.environ.get(CONFIG_VARIABLE)
    if named:
        return Path(named)
    return DEFAULT_PATH if DEFAULT_PATH.exists() else None


class _Loader(yaml.SafeLoader):
    """YAML in which no key may stand twice: the last one would win silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:  # noqa: FBT001, FBT002
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for index, (key, _) in enumerate(node.value):
            if isinstance(key, yaml.ScalarNode) and key.value in names[:index]:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is set twice", key.start_mark)
        return super().construct_mapping(node, deep=deep)


def _read_yaml(path: Path) -> dict[str, object]:
    """The file's settings; a section left empty counts as absent. Raises `UsageError`."""
    try:
        document = yaml.load(read_regular_file(path).decode(), _Loader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {reason_of(error)}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is not UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}:" if error.problem_mark else ""
        raise UsageError(f"{path}:{line} not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError):
        raise UsageError(f"{path}: not valid YAML") from None
    if document is None:
        return {}
    if not isinstance(document, dict) or not all(isinstance(name, str) for name in document):
        raise UsageError(f"{path}: must be a mapping of sections such as kafka and delivery")
    return {name: value for name, value in document.items() if value is not None}


def _sections() -> dict[str, type[BaseModel] | None]:
    """Every top-level name, with its section if it is one."""
    annotations = {name: info.annotation for name, info in Settings.model_fields.items()}
    return {
        name: annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
        for name, annotation in annotations.items()
    }


def _declared() -> list[Key]:
    """Every declared key."""
    keys: list[Key] = []
    for name, section in _sections().items():
        keys += [(name,)] if section is None else [(name, key) for key in section.model_fields]
    return keys


def _keys_of(values: Mapping[str, object]) -> list[Key]:
    """The keys set in a file, known or not."""
    keys: list[Key] = []
    for name, value in values.items():
        keys += [(name, str(key)) for key in value] if isinstance(value, dict) else [(name,)]
    return keys


def _variables() -> dict[Key, str]:
    """The keys that the environment sets, with the variable of each. Raises `UsageError` for unknown ones."""
    known = {_PREFIX + "__".join(key).upper(): key for key in _declared()}
    found: dict[Key, str] = {}
    problems = []
    for name, text in os.environ.items():
        upper = name.upper()
        if upper in known:
            if text:
                found[known[upper]] = name
        elif upper.startswith(_PREFIX) and upper != CONFIG_VARIABLE and _is_mistake(upper, text, known):
            problems.append(f"{name}: unknown setting{did_you_mean(upper, known)}")
    if problems:
        raise UsageError(*problems)
    return found


def _is_mistake(name: str, text: str, known: Iterable[str]) -> bool:
    """Whether an unknown variable was meant as a setting. Others may begin with our prefix: Kubernetes puts
    ``PUSHRAIL_INGEST_PORT=tcp://...`` into every pod beside a service called ``pushrail-ingest``.
    """  # fmt: skip
    if "__" in name or name.removeprefix(_PREFIX).lower() in _sections():
        return True
    return not text.startswith("tcp://") and name in {candidate.replace("__", "_") for candidate in known}


def _environment(variables: Mapping[Key, str]) -> dict[Key, object]:
    """The values of these variables, JSON where the key is a mapping. Raises `UsageError`."""
    if not variables:
        return {}
    from pydantic_settings import EnvSettingsSource

    source = EnvSettingsSource(
        Settings,  # type: ignore[arg-type]  # it reads the fields of any model
        env_prefix=_PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        env_parse_none_str="null",
    )
    sections = _sections()
    problems = [
        f"{name}: must be a JSON object of names to values"
        for (top, *below), name in variables.items()
        if (section := sections[top])
        and source.field_is_complex(section.model_fields[below[0]])
        and not _is_json_object(os.environ[name])
    ]
    if problems:
        raise UsageError(*problems)
    values = source()
    return {key: values[key[0]][key[1]] if len(key) > 1 else values[key[0]] for key in variables}


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _set(values: dict[str, object], key: Key, value: object) -> None:
    if len(key) == 1:
        values[key[0]] = value
        return
    section = values.get(key[0], {})
    # A section that is no mapping stays as it is: the model refuses it by name.
    if isinstance(section, dict):
        values[key[0]] = {**section, key[1]: value}


def _line(problem: Mapping[str, Any], file: str, variables: Mapping[Key, str]) -> str:
    """One problem, named by the variable when that is where the value came from, else by file and key."""
    where = tuple(str(part) for part in problem["loc"] if part != "[key]")
    variable = variables.get(where[:2]) or variables.get(where[:1])
    what = sentence(problem)
    if problem["type"] == "extra_forbidden":
        section = _sections().get(where[0])
        what = "unknown setting" + did_you_mean(where[-1], section.model_fields if section else _sections())
    if variable is not None:
        return ": ".join([variable, *where[2:], what])
    return f"{file}: {'.'.join(where)}: {what}"
