"""A function → the tool object that tells the model of it, and a call of it with checked arguments."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, get_args, get_origin, get_type_hints

from glmflash.errors import ParameterError
from glmflash.tools.hints import Field, read_object, schema_of_object, understand

__all__ = ["Tool", "tool", "understand_all"]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SECTION = re.compile(r"(?m)^(?:[A-Z][A-Za-z ]*:\s*$|:\w+[^:\n]*:)")
_ENTRY = re.compile(r"(?m)^(?:    |\t)\*{0,2}(\w+)[^:\n]*:[ \t]*(.*(?:\n(?:    |\t)\s+\S.*)*)")
_PARAM = re.compile(r"(?m)^:param (?:[^:\n]*\s)?(\w+):[ \t]*(.*(?:\n[ \t]+\S.*)*)")
_KINDS = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call.

    Args:
        name: What the model calls it.
        function: The function.
        description: What the model is told of it.
        parameters: Its parameters by name.
    """

    name: str
    function: Callable[..., object]
    description: str
    parameters: Mapping[str, Field]

    def as_openai(self) -> dict[str, object]:
        """The tool object."""
        told = {"description": self.description} if self.description else {}
        function = {"name": self.name, **told, "parameters": schema_of_object(self.parameters)}
        return {"type": "function", "function": function}

    def read(self, arguments: Mapping[str, object]) -> dict[str, object]:
        """Keywords for the function, each of its parameter's type.

        Raises:
            ParameterError: If an argument is unknown, missing or of the wrong type.
        """
        return read_object(self.parameters, arguments, "")


def tool(function: Callable[..., object]) -> dict[str, object]:
    """Describe a function as an OpenAI-style tool object, from its signature and docstring.

    Parameters are those of the signature, with schemas from their type hints: str, int, float, bool, None,
    `Literal`, `Enum`, list, dict, dataclasses, and unions of them. What the docstring says before its first
    section is the description; what it says of a parameter, under "Args:" or after ":param name:", or
    `Annotated[..., "text"]`, is that parameter's.

    Args:
        function: Has a name of its own, and parameters that can be given by name.

    Raises:
        ParameterError: If the function cannot be described so.

    Example:
        >>> def weather(city: str, days: int = 3) -> str:
        ...     '''Forecast the weather.
        ...
        ...     Args:
        ...         city: Where.
        ...     '''
        >>> tool(weather)["function"]["parameters"]["properties"]
        {'city': {'type': 'string', 'description': 'Where.'}, 'days': {'type': 'integer', 'default': 3}}
    """
    return _understand(function).as_openai()


def understand_all(functions: Sequence[Callable[..., object]]) -> dict[str, Tool]:
    """Functions by name.

    Raises:
        ParameterError: If one cannot be described, or two have the same name.
    """
    given: object = functions
    if not isinstance(given, (list, tuple)) or not given:
        raise ParameterError("functions", f"is {_kind(given)}; allowed: a list of one or more functions")
    tools = [_understand(function) for function in functions]
    named = {one.name: one for one in tools}
    if len(named) < len(tools):
        raise ParameterError("functions", f"has a name twice: {', '.join(one.name for one in tools)}")
    return named


def _understand(function: object) -> Tool:
    name = getattr(function, "__name__", None)
    if not callable(function) or isinstance(function, type) or not isinstance(name, str):
        raise ParameterError("functions", f"holds {_kind(function)}; allowed: functions and methods")
    if not _NAME.fullmatch(name):
        raise ParameterError("functions", f"holds {name:.70}; give it a name: def some_name(...)")
    if inspect.iscoroutinefunction(function):
        raise ParameterError(name, "is a coroutine; allowed: functions that return when they are done")
    try:
        parameters = inspect.signature(function).parameters
        hints = get_type_hints(function, include_extras=True)
    except (TypeError, ValueError, NameError) as error:
        raise ParameterError(name, f"has no signature that can be read ({error})") from None
    text, said = _docstring(function)
    return Tool(
        name, function, text, {key: _field(one, name, hints, said) for key, one in parameters.items()}
    )


def _field(
    parameter: inspect.Parameter, function: str, hints: Mapping[str, object], said: Mapping[str, str]
) -> Field:
    where = f"{function}({parameter.name})"
    if parameter.kind not in _KINDS:
        raise ParameterError(where, "cannot be given by name; allowed: parameters without / and *")
    hint = hints.get(parameter.name, parameter.empty)
    notes = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    note = next((one for one in notes if isinstance(one, str)), "")
    default = parameter.default
    return Field(
        understand(hint, where),
        required=default is parameter.empty,
        default=default if type(default) in (str, int, float, bool) else None,
        description=note or said.get(parameter.name, ""),
    )


def _docstring(function: object) -> tuple[str, dict[str, str]]:
    """What it says of the function, and of each parameter."""
    text = inspect.cleandoc(function.__doc__ or "")
    section = _SECTION.search(text)
    head, rest = (text[: section.start()], text[section.start() :]) if section else (text, "")
    arguments = re.search(r"(?m)^(?:Args|Arguments|Parameters):\s*\n((?:(?:[ \t]+.*)?(?:\n|\Z))*)", rest)
    entries = [*_ENTRY.findall(arguments[1] if arguments else ""), *_PARAM.findall(rest)]
    return " ".join(head.split()), {name: " ".join(said.split()) for name, said in entries}


def _kind(value: object) -> str:
    return "empty" if value in ([], ()) else f"a {type(value).__name__}"
