"""What every verb takes, read off the functions and annotations that Typer reads it off."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, Final, get_args, get_origin

from typer.models import ArgumentInfo, OptionInfo
from typer.utils import get_params_from_function

from pybench.harness.cli.common_options import common_options
from pybench.harness.cli.overview import VERBS

_WORDS: Final = {int: "N", float: "X", Path: "FILE", str: "TEXT"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """An argument or an option."""

    names: tuple[str, ...]
    """Of an option every spelling; of an argument the word that stands for it."""
    value: str
    """The word for what an option is given; empty for one that is given nothing."""
    text: str
    default: str = ""
    variable: str = ""
    """Of the environment, where it may also be said."""
    required: bool = False
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb, or one below another."""

    path: tuple[str, ...]
    """The words of the command line that call it, without `pybench`."""
    summary: str
    paragraphs: tuple[str, ...] = ()
    """What follows the summary in its help."""
    examples: tuple[str, ...] = ()
    arguments: tuple[Parameter, ...] = ()
    options: tuple[Parameter, ...] = ()
    verbs: tuple[Verb, ...] = field(default=())
    alone: bool = True
    """Whether it does something without one of its verbs."""

    @property
    def name(self) -> str:
        """Its last word."""
        return self.path[-1]

    @property
    def call(self) -> str:
        """How it is called, such as `pybench history tag [OPTIONS] RUN NAME`."""
        words = ["pybench", *self.path, *(["[OPTIONS]"] if self.options else [])]
        for each in self.arguments:
            word = each.names[0] + ("..." if each.repeated else "")
            words.append(word if each.required else f"[{word}]")
        if self.verbs:
            words.append("[VERB ...]" if self.alone else "VERB ...")
        return " ".join(words)


def verbs() -> tuple[Verb, ...]:
    """Every verb, in the order of the overview."""
    return tuple(_verb(name) for name in VERBS)


def common() -> tuple[Parameter, ...]:
    """The options that every verb takes."""
    return _options(common_options)


def _verb(name: str) -> Verb:
    app = importlib.import_module(f"pybench.harness.cli.{name}").app
    groups = app.registered_callback
    if not groups and len(app.registered_commands) == 1:
        (command,) = app.registered_commands
        return _described((name,), command.callback, command.epilog)
    below = []
    for each in app.registered_commands:
        word = each.name or each.callback.__name__.replace("_", "-")
        below.append(_described((name, word), each.callback, each.epilog))
    if groups:
        epilog = groups.epilog if isinstance(groups.epilog, str) else app.info.epilog
        return _described((name,), groups.callback, epilog, tuple(below))
    return Verb((name,), app.info.help, verbs=tuple(below), examples=_examples(app.info.epilog), alone=False)


def _described(
    path: tuple[str, ...], function: Callable[..., Any], epilog: object, below: tuple[Verb, ...] = ()
) -> Verb:
    summary, *paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    return Verb(
        path,
        " ".join(summary.split()),
        tuple(" ".join(each.split()) for each in paragraphs),
        _examples(epilog),
        _arguments(function),
        _options(function),
        below,
    )


def _examples(epilog: object) -> tuple[str, ...]:
    """`Example: one`, or `Examples: one · two`."""
    if not isinstance(epilog, str):
        return ()
    return tuple(each.strip() for each in epilog.partition(":")[2].split(" · "))


def _arguments(function: Callable[..., Any]) -> tuple[Parameter, ...]:
    return tuple(
        _argument(each.name, each.annotation, each.default)
        for each in get_params_from_function(function).values()
        if isinstance(each.default, ArgumentInfo) and not each.default.hidden
    )


def _options(function: Callable[..., Any]) -> tuple[Parameter, ...]:
    return tuple(
        _option(each.name, each.annotation, each.default)
        for each in get_params_from_function(function).values()
        if isinstance(each.default, OptionInfo) and not each.default.hidden
    )


def _argument(name: str, annotation: Any, info: ArgumentInfo) -> Parameter:  # noqa: ANN401
    kind, repeated = _kind(annotation)
    choices = _choices(kind)
    word = (info.metavar or choices or name.rstrip("_").upper()).strip("[]").removesuffix("...")
    return Parameter(
        (word,),
        "",
        _sentence(info.help),
        _default(info.default),
        required=info.default is ...,
        repeated=repeated,
    )


def _option(name: str, annotation: Any, info: OptionInfo) -> Parameter:  # noqa: ANN401
    kind, repeated = _kind(annotation)
    names = tuple(info.param_decls or ()) or (f"--{name.rstrip('_').replace('_', '-')}",)
    value = "" if kind is bool else info.metavar or _choices(kind) or _WORDS.get(kind, "TEXT")
    variable = info.envvar if isinstance(info.envvar, str) else ""
    return Parameter(
        tuple(part for each in names for part in each.split("/")),
        value,
        _sentence(info.help) + _bounds(info),
        _default(info.default),
        variable,
        required=info.default is ...,
        repeated=repeated,
    )


def _kind(annotation: Any) -> tuple[Any, bool]:  # noqa: ANN401
    """The type of one value, and whether there may be several; an Optional is what it may hold."""
    parts = [part for part in get_args(annotation) if part is not NoneType]
    if get_origin(annotation) in {list, tuple}:
        return parts[0], True
    return _kind(parts[0]) if parts else (annotation, False)


def _choices(kind: Any) -> str:  # noqa: ANN401
    return "|".join(each.value for each in kind) if isinstance(kind, type) and issubclass(kind, Enum) else ""


def _default(value: object) -> str:
    match value:
        case None | False | "" | True:
            return ""
        case Enum():
            return str(value.value)
        case Path() if value == Path():
            return "."
        case str() | int() | float() | Path():
            return str(value)
        case _:
            return ""


def _bounds(info: OptionInfo) -> str:
    if info.min is not None and info.max is not None:
        return f" From {info.min:g} to {info.max:g}."
    return f" At least {info.min:g}." if info.min else ""


def _sentence(text: str | None) -> str:
    """With a full stop, and without the default, which is told beside it."""
    said = " ".join((text or "").split()).partition(" [default")[0]
    return f"{said}." if said and not said.endswith(".") else said


def flattened(every: Sequence[Verb]) -> list[Verb]:
    """Verbs, each followed by those below it."""
    return [one for verb in every for one in (verb, *flattened(verb.verbs))]
