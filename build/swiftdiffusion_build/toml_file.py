"""Files that people write for `scripts/build`: TOML, which has comments and no nesting to get wrong.

tomlkit reads it on every Python that we support, and tells the line of a mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import tomlkit
from tomlkit.exceptions import TOMLKitError

from swiftdiffusion.errors import InvalidArgument, NotFound

Meaning = TypeVar("Meaning")


def read_toml(path: Path, subject: str, interpret: Callable[[Mapping[str, Any]], Meaning]) -> Meaning:
    """What a file means.

    Args:
        path: the file.
        subject: what errors call it.
        interpret: makes sense of its content; raises InvalidArgument.

    Raises:
        NotFound: there is no file that can be read.
        InvalidArgument: it is no TOML, or `interpret` refuses it.
    """
    try:
        content = tomlkit.parse(path.read_bytes()).unwrap()
    except OSError as error:
        raise NotFound(f"{subject} {path} cannot be read: {error.strerror}") from None
    except (TOMLKitError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{subject} {path} is no TOML: {error}") from None
    try:
        return interpret(content)
    except InvalidArgument as error:
        raise InvalidArgument(f"{subject} {path}: {error}") from None
