"""The one family of errors: each carries the Triton status code that its sender should answer with."""


class SwiftDiffusionError(Exception):
    """A request that cannot be served; the message is a sentence for the person who sent it."""

    code = "INTERNAL"


class InvalidArgument(SwiftDiffusionError):
    """An input that no server of this kind would accept (HTTP 400)."""

    code = "INVALID_ARG"


class NotFound(SwiftDiffusionError):
    """A name that this server does not know (HTTP 404)."""

    code = "NOT_FOUND"


class Unavailable(SwiftDiffusionError):
    """Something that would work at another time: a missing service, a passed deadline (HTTP 503)."""

    code = "UNAVAILABLE"


class Lost(Unavailable):
    """A model whose process has died, which Triton does not start again by itself."""


class Cancelled(SwiftDiffusionError):
    """The sender gave up, so the work was stopped (HTTP 499)."""

    code = "CANCELLED"

    def __init__(self, sentence: str = "the request was cancelled by its sender") -> None:
        super().__init__(sentence)


class Internal(SwiftDiffusionError):
    """A fault of ours (HTTP 500)."""

    code = "INTERNAL"


_FAMILIES = (InvalidArgument, NotFound, Unavailable, Cancelled)


def describe(error: Exception) -> str:
    """One line, ``CODE: sentence``, that `from_description` reads back.

    Triton loses the code of an error that passes a BLS call (it arrives as INTERNAL), so the
    code travels in the message. An unexpected exception gives its type alone: its message may
    hold paths or data.
    """
    if isinstance(error, SwiftDiffusionError):
        return f"{error.code}: {error}"
    return f"{Internal.code}: {type(error).__name__} while serving the request; the server's log has the details"


def is_description(text: str) -> bool:
    """Whether `describe` wrote it."""
    return text.partition(": ")[0] in {family.code for family in (*_FAMILIES, Internal)}


def from_description(text: str) -> SwiftDiffusionError:
    """Rebuild the error that `describe` wrote; any other text becomes `Internal`."""
    code, separator, sentence = text.partition(": ")
    for family in _FAMILIES:
        if separator and code == family.code:
            return family(sentence)
    return Internal(sentence if code == Internal.code else text)


def shorten(text: str, limit: int = 64) -> str:
    """Quote a text from outside for a message: escaped, and no longer than about `limit` characters."""
    return repr(text if len(text) <= limit else text[:limit] + "…")
