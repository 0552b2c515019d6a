"""``python -m cspbench`` is the ``cspbench`` command.

Python puts the working directory first on the import path for ``-m``. Modules that lie there are
not imported from here on; ``python -I -m cspbench``, like ``cspbench``, never looks there.
"""

import os
import sys

if sys.path and sys.path[0] in ("", os.getcwd()) and not getattr(sys.flags, "safe_path", False):
    del sys.path[0]

from cspbench.cli.main import main

main()
