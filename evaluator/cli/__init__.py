"""The command line: reads arguments, calls the other packages, prints tables or JSON."""

import errno
import sys

import typer

from evaluator.cli import check, doctor, leaderboard, profile, records, study, submissions, submit, tasks
from evaluator.cli.console import complain
from evaluator.cli.late_help import late_help
from tasks.support.errors import UserError
from tasks.support.threads import prepare_threads

app = typer.Typer(
    name="beans",
    help="Evaluate frozen audio encoders on animal sounds, and rank them.",
    epilog="Example: beans submit submissions/statistics.toml --tasks mini-calls",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("submit", cls=late_help(track=submit.tracks_help), epilog=submit.EXAMPLE)(submit.submit)
app.command("check", epilog=check.EXAMPLE)(check.check)
app.command("profile", epilog=profile.EXAMPLE)(profile.profile)
app.add_typer(tasks.app, name="tasks")
app.add_typer(submissions.app, name="submissions")
app.add_typer(records.app, name="records")
app.add_typer(leaderboard.app, name="leaderboard")
app.add_typer(study.app, name="study")
app.command("doctor", epilog=doctor.EXAMPLE)(doctor.doctor)


_INTERRUPTED = 130
# Errors of the machine (permissions, disk). Other errors are bugs of the suite.
_ENVIRONMENT = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG),
    *(errno.ENOSPC, errno.EDQUOT),
)


def main() -> None:
    """Run the command line. A user's mistake prints one sentence and exits with 2. A bug keeps its traceback."""
    prepare_threads()
    try:
        # In standalone mode typer prints errors in a box and breaks their lines.
        sys.exit(app(prog_name="beans", standalone_mode=False))
    except UserError as error:
        complain(str(error))
        sys.exit(2)
    except typer.TyperException as error:
        # Without arguments typer has printed the help, and the message is empty.
        if message := error.format_message():
            complain(_sentence(message, error))
        sys.exit(error.exit_code)
    except typer.Abort:
        complain("Stopped: the command needs an answer and received none.")
        sys.exit(1)
    except OSError as error:
        if error.errno not in _ENVIRONMENT or error.filename is None:
            raise
        complain(f"{error.filename}: {error.strerror}; check the path, its permissions and BEANS_HOME.")
        sys.exit(2)
    except SystemExit as stop:
        # typer turns Ctrl-C into this exit code.
        if stop.code == _INTERRUPTED:
            complain("Interrupted: run the same command to continue where it stopped.")
        raise


def _sentence(message: str, error: typer.TyperException) -> str:
    """Return typer's message about a wrong option, with the command that shows its help."""
    context = getattr(error, "ctx", None)
    hint = f" (see `{context.command_path} --help`)" if context else ""
    return f"{message.replace(': Value error, ', ': ').rstrip('.')}{hint}."
