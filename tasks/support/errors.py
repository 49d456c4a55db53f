"""The one error type for mistakes a user can mend; anything else that is raised is a bug of ours."""


class UserError(Exception):
    """Bad input or a bad environment, in one sentence: what is wrong, where, and what to do.

    The command line prints the sentence and exits with code 2; a traceback is kept for bugs.
    """
