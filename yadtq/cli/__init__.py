"""The command `yadtq`: one file per group of commands. Needs `yadtq[cli]` (typer, rich)."""
