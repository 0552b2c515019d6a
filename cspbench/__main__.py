"""``python -m cspbench`` is the ``cspbench`` command."""

from cspbench.cli.main import main

main()
