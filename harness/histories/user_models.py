"""Finds a user's own model by its name on the command line, and hands it the operations of a file."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Hashable
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..porcupine.user_model import UserModel, UserOperation
from .imported import ImportedHistory
from .text_model import NAME, TextModel
from .texts import shown

__all__ = ["load_model", "names_user_model", "operations_of", "parts_of"]


def names_user_model(name: str) -> bool:
    """Whether a name is that of a model in Python: `text`, `FILE.py:NAME` or `package.module:NAME`."""
    return name == NAME or ":" in name


def load_model(name: str) -> UserModel:
    """The model; a class is called without arguments. Raises UsageError when there is none, or it is no model.

    Runs the user's file: it is code, and named by whoever runs the command.
    """
    if name == NAME:
        return TextModel()
    where, _, attribute = name.rpartition(":")
    module = _module(name, where)
    found = getattr(module, attribute, None)
    if found is None:
        names = ", ".join(one for one, value in vars(module).items() if isinstance(value, type)) or "none"
        raise UsageError(f"--model {name}: {where} has no {attribute!r}; its classes: {names}")
    try:
        model = found() if isinstance(found, type) else found
    except Exception as error:
        raise UsageError(f"--model {name}: {attribute}() raises {type(error).__name__}: {error}") from error
    lacking = [method for method in ("initial", "step") if not callable(getattr(model, method, None))]
    if lacking:
        raise UsageError(f"--model {name}: has no {' and no '.join(lacking)}; a model has initial() and step(...)")
    checked: UserModel = model
    return checked


def _module(name: str, where: str) -> Any:
    try:
        if not where.endswith(".py"):
            if str(Path.cwd()) not in sys.path:
                sys.path.insert(0, str(Path.cwd()))  # as `python -m` has it
            return importlib.import_module(where)
        spec = importlib.util.spec_from_file_location(f"aftershock_user_model_{Path(where).stem}", where)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module.__name__] = module  # dataclasses of the file look themselves up there
        spec.loader.exec_module(module)
        return module
    except (FileNotFoundError, ModuleNotFoundError) as error:
        raise UsageError(f"--model {name}: {error}; expected FILE.py:NAME or package.module:NAME") from None
    except Exception as error:
        raise UsageError(f"--model {name}: {where} raises {type(error).__name__}: {error}") from error


def operations_of(history: ImportedHistory, *, model: UserModel) -> tuple[list[UserOperation], list[int]]:
    """The operations that may have happened, and each one's row in the history's frame.

    The value of an operation is that of the file, as a tuple of key and value when the file has keys (and always for
    the model `text`). Lists become tuples, so that a model may keep them in its state.
    """
    keyed = isinstance(model, TextModel) or history.frame["key"].null_count() < history.frame.height
    operations: list[UserOperation] = []
    rows: list[int] = []
    for row, told in enumerate(history.frame.iter_rows(named=True)):
        if told["outcome"] == "fail" or _said_nothing(model, told):
            continue
        value = _hashable(shown(told["value"]))
        unknown = told["outcome"] == "unknown"
        operations.append(
            UserOperation(
                process=told["process"],
                f=told["f"],
                value=(_hashable(shown(told["key"])), value) if keyed else value,
                result=None if unknown else _hashable(shown(told["answer"])),
                start_ns=told["start_ns"],
                end_ns=None if unknown else told["end_ns"],
                unknown=unknown,
                row=len(operations),
            )
        )
        rows.append(row)
    return operations, rows


def _said_nothing(model: UserModel, told: dict[str, Any]) -> bool:
    """An unanswered read. Only of our own model is it known that reading changes nothing."""
    return isinstance(model, TextModel) and told["f"] == "read" and told["outcome"] == "unknown"


def _hashable(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_hashable, value))
    if isinstance(value, dict):
        return tuple((name, _hashable(member)) for name, member in sorted(value.items()))
    return value


def parts_of(model: UserModel, operations: list[UserOperation]) -> list[Hashable]:
    """What the checker's keys stand for: the model's parts, in order of first appearance."""
    partition = getattr(model, "partition", None)
    if partition is None:
        return [None]
    return list(dict.fromkeys(partition(operation) for operation in operations))
