"""The exceptions of paramcast.

ParamcastError                        everything raised on purpose
├── ArgumentError      (ValueError)   a value that cannot be used
├── BaseOptimizerError (TypeError)    an optimizer that cannot be wrapped
├── CheckpointError    (ValueError)   a saved state that does not fit, or is damaged
├── RankError          (RuntimeError) processes of one training that decide differently
└── StudyError                        a comparison that cannot be run as asked
    ├── TaskError                     the task: its file, its data, its model
    ├── StoreError                    the output folder and the runs stored in it
    └── RunError                      runs that failed while the comparison ran

Each message says what it got, what is needed and what to do. The command line turns every
ParamcastError into that one sentence and exit code 2, a RunError into exit code 1.
"""

from __future__ import annotations


class ParamcastError(Exception):
    """Base of all exceptions that paramcast raises on purpose."""


class ArgumentError(ParamcastError, ValueError):
    """A value that cannot be used."""


class BaseOptimizerError(ParamcastError, TypeError):
    """An optimizer that cannot be wrapped."""


class CheckpointError(ParamcastError, ValueError):
    """A saved state that is damaged or does not fit the optimizer it is loaded into."""


class RankError(ParamcastError, RuntimeError):
    """Processes of one distributed training that decide differently."""


class StudyError(ParamcastError):
    """A comparison that cannot be run as asked."""


class TaskError(StudyError):
    """A task whose file, data or model cannot be used."""


class StoreError(StudyError):
    """An output folder or a store of runs that cannot be used."""


class RunError(StudyError):
    """Runs that failed while a comparison ran."""
