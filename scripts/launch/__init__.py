"""What every script needs before it can work: an environment, a check of the machine, a running server.

Only the standard library is imported here, since it runs before anything is installed.
"""

import sys

if sys.version_info < (3, 10):  # noqa: UP036 - said here, before a module of ours fails on newer syntax
    sys.exit(f"{sys.executable} is too old: run this script with Python 3.10, 3.11 or 3.12.")
