"""``python -m coretree`` is the command line."""

from __future__ import annotations

from coretree.cli import main

if __name__ == "__main__":
    main()
