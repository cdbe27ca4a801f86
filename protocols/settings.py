"""Where a process's settings come from: command line, then environment, then file, then default.

Rule 1: every mistake at once, each with the place where it was written and the way out. A secret
is never shown.
Rule 2: an environment variable that begins with the process's prefix and means nothing is a
mistake.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, SecretStr, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from protocols.errors import ConfigError, Problem

Port = Annotated[int, Field(ge=0, le=65_535)]


@dataclass(frozen=True, slots=True)
class Written:
    """What somebody wrote, laid over each other. `places`: where each value stands."""

    prefix: str
    values: Mapping[str, Any]
    places: Mapping[str, str]

    def problems(self, error: ValidationError, model: type[BaseModel]) -> Iterator[Problem]:
        """What `model` has to say against the values, in words for whoever wrote them."""
        for one in error.errors():
            yield self._problem(one, model)

    def missing(self, name: str, meaning: str = "") -> Problem:
        remedy = f"{meaning} Give --{_dashed(name)} or set {self.prefix}{name.upper()}."
        return Problem(f"setting {name}", "", "is not given", remedy.lstrip())

    def _problem(self, error: Any, model: type[BaseModel]) -> Problem:
        name = str(error["loc"][0])
        if error["type"] == "missing":
            return self.missing(name)
        where = self.places.get(name, name)
        if error["type"] == "extra_forbidden":
            known = ", ".join(sorted(model.model_fields))
            return Problem(where, "", "is not a setting", f"Known are: {known}.")
        is_secret = model.model_fields[name].annotation in (SecretStr, SecretStr | None)
        shown = "" if is_secret else repr(error["input"])
        why = str(error["msg"]).removeprefix("Value error, ")
        return Problem(where, shown, why, "Correct it or leave it out.")


def gather(
    prefix: str, overrides: Mapping[str, Any], environment: Mapping[str, str], file: Path | None
) -> Written:
    """`overrides`: options of the command line; None: not given. ConfigError: an unusable file.

    Without `file` the variable `<prefix>CONFIG` may name one.
    """
    variable = f"{prefix}CONFIG"
    given = {name: value for name, value in overrides.items() if value is not None}
    chosen = file or (Path(environment[variable]) if variable in environment else None)
    from_file = {} if chosen is None else _read(chosen)
    from_environment = {
        name.removeprefix(prefix).lower(): value
        for name, value in environment.items()
        if name.startswith(prefix) and name != variable
    }
    places = {name: f"{chosen}: {name}" for name in from_file}
    places |= {name: f"{prefix}{name.upper()}" for name in from_environment}
    places |= {name: f"--{_dashed(name)}" for name in given}
    return Written(prefix, {**from_file, **from_environment, **given}, places)


def revealed(secret: SecretStr | None) -> str | None:
    """For whoever must send it."""
    return None if secret is None else secret.get_secret_value()


def _read(file: Path) -> dict[str, Any]:
    try:
        found = YAML(typ="safe", pure=True).load(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(file, str(error), "Give a readable file.") from error
    except YAMLError as error:
        raise _unusable(file, f"is no YAML: {error}", "Write `name: value` lines.") from error
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise _unusable(file, "is not a list of settings", "Write `name: value` lines.")
    return found


def _unusable(file: Path, why: str, remedy: str) -> ConfigError:
    return ConfigError([Problem(str(file), "", why, remedy)])


def _dashed(name: str) -> str:
    return name.replace("_", "-")
