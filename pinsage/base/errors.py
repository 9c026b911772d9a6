"""Every error this project raises on purpose.

A message says what was wanted, what was found, where, and what to try. The constructor's arguments
are the exception's `args`, so each of them pickles and crosses processes whole.
"""


class PinsageError(Exception):
    """The base of all errors that a user can act on; jobs print it without a traceback."""


class ConfigError(PinsageError):
    """A configuration file or override that does not describe a run."""


class DataError(PinsageError):
    """Input tables that cannot be ingested; the message lists every finding."""


class ArtifactError(PinsageError):
    """A published directory that is missing, unfinished, damaged or of another kind."""


class ResourceError(PinsageError):
    """A machine or cluster that cannot give what the configuration asks for."""


class TrainingError(PinsageError):
    """A training run that cannot start or go on."""


class WorkerTimeoutError(PinsageError):
    """A remote part gave no answer in the time it was given."""
