"""The command line: arguments in, tables out, nothing else."""

import errno
import sys

import typer

from evaluator.cli import check, doctor, leaderboard, profile, records, study, submissions, submit, tasks
from evaluator.cli.console import complain
from tasks.support.errors import UserError

app = typer.Typer(
    name="beans",
    help="Evaluate frozen audio encoders on animal sounds, and rank them.",
    epilog="Example: beans submit submissions/statistics.toml --tasks mini-calls",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("submit", cls=submit.WithTracks, epilog=submit.EXAMPLE)(submit.submit)
app.command("check", epilog=check.EXAMPLE)(check.check)
app.command("profile", epilog=profile.EXAMPLE)(profile.profile)
app.add_typer(tasks.app, name="tasks")
app.add_typer(submissions.app, name="submissions")
app.add_typer(records.app, name="records")
app.add_typer(leaderboard.app, name="leaderboard")
app.add_typer(study.app, name="study")
app.command("doctor", epilog=doctor.EXAMPLE)(doctor.doctor)


_INTERRUPTED = 130
# What the machine refuses rather than what we did wrong.
_ENVIRONMENT = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOSPC, errno.EDQUOT)


def main() -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2, a bug keeps its traceback."""
    try:
        # In its own mode typer would print a wrong option in a box, folded to the width of the terminal.
        sys.exit(app(prog_name="beans", standalone_mode=False))
    except UserError as error:
        complain(str(error))
        sys.exit(2)
    except typer.TyperException as error:
        # Without arguments typer has printed the help, and there is no message.
        if message := error.format_message():
            complain(_sentence(message, error))
        sys.exit(error.exit_code)
    except typer.Abort:
        complain("Stopped: an answer is needed, and there was none.")
        sys.exit(1)
    except OSError as error:
        if error.errno not in _ENVIRONMENT or error.filename is None:
            raise
        complain(f"{error.filename}: {error.strerror}; check the path, its permissions and BEANS_HOME.")
        sys.exit(2)
    except SystemExit as stop:
        # The command line's library has turned Ctrl-C into this code already.
        if stop.code == _INTERRUPTED:
            complain("Interrupted: run the same command to continue where it stopped.")
        raise


def _sentence(message: str, error: typer.TyperException) -> str:
    """What typer says of a wrong option, and where its help is."""
    context = getattr(error, "ctx", None)
    hint = f" (see `{context.command_path} --help`)" if context else ""
    return f"{message.replace(': Value error, ', ': ').rstrip('.')}{hint}."
