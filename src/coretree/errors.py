"""Every error that coretree raises on purpose, as one tree.

::

    CoretreeError
    ├── ConfigError (ValueError)            a job file, option or argument is wrong
    ├── DataError (ValueError)              the data cannot be used as it is
    │   ├── SchemaError                     a column is missing, misnamed or of another type
    │   ├── FileError (OSError)             a file is truncated, damaged or not Parquet
    │   ├── EmptyDataError                  no file, no row, or none left after cleaning
    │   ├── TargetError                     the target cannot be learned (one class, no value, ...)
    │   └── DataChangedError                a file is not the one that was planned
    ├── StoreError (OSError)                a tree's folder cannot be read or written
    │   ├── OutputExistsError (FileExistsError)  what would be written is there already
    │   ├── MissingObjectError (FileNotFoundError)  a stored object is not there
    │   ├── WriteConflictError              another writer was faster
    │   ├── DamagedNodeError                a stored object fails its checksum
    │   └── RecipeMismatchError             nodes of different recipes cannot be merged
    ├── ModelFileError (ValueError)         a saved model is damaged, foreign or of another format
    └── ClusterError (RuntimeError)         the cluster cannot carry the work out
        ├── SchedulerError (ConnectionError)  no scheduler there, or it was lost
        ├── NoWorkersError                  a scheduler without workers
        ├── MemoryPlanError (MemoryError)   the work does not fit the workers' memory
        ├── PartitionError                  one partition failed or killed its workers
        └── StalledError (TimeoutError)     nothing runs any more

Warnings: ``CoretreeWarning`` (UserWarning), with ``CoresetQualityWarning`` for results that may be further from the
full-data ones than usual, and ``DataWarning`` for what was dropped or changed in the data.

A message says where, what must hold, what was found, and what to type. ``exit_code`` is what the command line returns.
"""

from __future__ import annotations


class CoretreeError(Exception):
    """Base class: ``except CoretreeError`` catches everything that coretree raises on purpose."""

    exit_code = 1


class ConfigError(CoretreeError, ValueError):
    """A job file, an option or an argument is wrong."""

    exit_code = 2


class DataError(CoretreeError, ValueError):
    """The data cannot be used as it is."""

    exit_code = 2


class SchemaError(DataError):
    """A column is missing, misnamed, repeated or of another type than declared."""


class FileError(DataError, OSError):
    """A file is truncated, damaged or not Parquet at all."""


class EmptyDataError(DataError):
    """No file, no row, or no row left after cleaning and splitting."""


class TargetError(DataError):
    """The target cannot be learned: one class only, no value, too many classes."""


class DataChangedError(DataError):
    """A file is not the one that was planned: it was rewritten in between."""


class StoreError(CoretreeError, OSError):
    """A tree's folder or store cannot be read or written."""


class OutputExistsError(StoreError, FileExistsError):
    """What would be written is there already; nothing was touched."""

    exit_code = 2


class MissingObjectError(StoreError, FileNotFoundError):
    """A stored object is not there."""


class WriteConflictError(StoreError):
    """Another writer was faster; nothing was changed."""


class DamagedNodeError(StoreError):
    """A stored object fails its checksum."""


class RecipeMismatchError(StoreError):
    """Nodes built under different recipes cannot be merged."""

    exit_code = 2


class ModelFileError(CoretreeError, ValueError):
    """A saved model is damaged, foreign or of another format."""


class ClusterError(CoretreeError, RuntimeError):
    """The cluster cannot carry the work out."""


class SchedulerError(ClusterError, ConnectionError):
    """No scheduler answers at the address, or the connection to it was lost."""


class NoWorkersError(ClusterError):
    """A scheduler is there, but no worker is."""


class MemoryPlanError(ClusterError, MemoryError):
    """The work does not fit the memory of the workers."""


class PartitionError(ClusterError):
    """One partition failed, or killed the workers that tried it."""


class StalledError(ClusterError, TimeoutError):
    """Nothing runs any more, and nothing will."""


class CoretreeWarning(UserWarning):
    """Base class of coretree's warnings."""


class CoresetQualityWarning(CoretreeWarning):
    """A coreset may be further from the full data than coretree usually promises."""


class DataWarning(CoretreeWarning):
    """Something in the data was dropped, changed or looks wrong."""
