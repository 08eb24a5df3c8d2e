"""One root error and a few leaves; each message says what happened, with which value, and what to do next."""


class ShardwiseError(Exception):
    """Anything that Shardwise itself reports to a person; shown as one sentence, never as a traceback."""


class BadInputError(ShardwiseError):
    """What the person gave cannot be used: a layout, a flag, a query, a file."""


class UnknownReleaseError(ShardwiseError):
    """The release does not exist, or is not in the index."""


class SourceError(ShardwiseError):
    """A source cannot be reached or delivers something other than it promised."""


class UnsafeArchiveError(SourceError):
    """An archive breaks a limit or holds something that is not a regular file with a plain name."""


class IndexUnavailableError(ShardwiseError):
    """The index is missing, locked by another process, damaged, or built with another embedder."""


class ModelUnavailableError(ShardwiseError):
    """The configured language model or embedder does not answer as it should."""
