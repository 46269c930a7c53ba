"""The command line: `paramcast` with its commands, and their exit codes."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys

try:
    import click
except ImportError:  # pragma: no cover - the library alone has no command line
    sys.exit("paramcast: the command line needs more packages: pip install 'paramcast[study]'")

from ..errors import ParamcastError, RunError
from ..study.reading import printable
from .combine import combine
from .judge import judge
from .methods import methods
from .new_task import new_task
from .pilot import pilot
from .report import report
from .roi import roi
from .running import Interrupted, leave
from .study import study
from .tasks import tasks
from .watch import watch


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="paramcast")
def cli() -> None:
    """Predict parameters while a network trains, and find out whether that helps.

    \b
    Start with the pilot, which compares SGD with PLP fairly and says whether to adopt it:
        paramcast pilot                      on scikit-learn's digits, about a minute
        paramcast new-task my_task.py        write an example task to fill with your own
        paramcast pilot my_task.py:task      on your own data, model and loss
        paramcast pilot train.py:train       on a training loop of your own
        paramcast pilot --help               on a script of yours, a table, images
        paramcast judge results.csv          on results that you have already
        paramcast combine ckpt_*.pt          on checkpoints that you have already
    """


for command in (pilot, judge, combine, new_task, methods, tasks, study, roi, report, watch):
    cli.add_command(command)


def main(command: click.Command = cli) -> None:
    """Run the command line, or another command; a user's mistake ends in one sentence."""
    _open_what_is_closed()
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        # until a command runs: during an import a KeyboardInterrupt may get lost
        signal.signal(signal.SIGINT, leave)
    if isinstance(sys.stdout, io.TextIOWrapper):  # escape what the encoding lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    code = _main(command)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is said; no traceback while Python ends
    sys.exit(code)


def _open_what_is_closed() -> None:
    """Send standard streams that are closed (`2>&-`) to nowhere.

    Else the next file that is opened would get their number, and with it all that is printed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def _main(command: click.Command = cli) -> int:
    """Run a command; 0 finished, 1 runs failed, 2 bad input, 130 interrupted."""
    try:
        command.main(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        # click's own complaint: its sentence, and where to read on
        hint = f"; see {context.command_path} --help" if context else ""
        return _say(error.format_message().rstrip(".") + hint, 2)
    except RunError as error:
        return _say(str(error), 1)
    except ParamcastError as error:
        return _say(str(error), 2)
    except Interrupted as error:
        return _say(str(error), 130)
    except (click.Abort, KeyboardInterrupt):
        return _say("interrupted", 130)
    except PermissionError as error:
        return _say(f"{error.filename} may not be used ({error.strerror}); give access to it", 2)
    except OSError as error:
        if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EIO):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # drop the rest of the output
        return _say(f"the output cannot be written ({error.strerror})", 2)
    return 0


def _say(message: str, code: int) -> int:
    click.echo(f"paramcast: {printable(' '.join(message.split()))}", err=True)
    return code
