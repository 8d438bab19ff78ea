"""`python -m db1` is the `db1` command, for launchers: deepspeed --module db1 eval ..."""

from __future__ import annotations

from db1.cli.main import main

if __name__ == "__main__":
    main()
