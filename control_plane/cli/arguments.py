"""Options that belong to a whole command may stand anywhere on its line, as users write them. Pure."""

from collections.abc import Mapping, Sequence


def hoisted(arguments: Sequence[str], options: Mapping[str, bool]) -> list[str]:
    """`arguments` with the named options moved to the front; what follows a `--` stays as it is.

    Args:
        options: Option -> whether it takes a value (`--server URL`, `--server=URL`).
    """
    moved: list[str] = []
    kept: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            kept += [argument, *rest]
            break
        name, equals, _ = argument.partition("=")
        if name not in options:
            kept.append(argument)
            continue
        moved.append(argument)
        if options[name] and not equals:
            moved += [value for value in [next(rest, None)] if value is not None]
    return moved + kept
