"""Commands of other programs, run and watched."""
