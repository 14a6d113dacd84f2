"""Threads that run a program together: how many, persistent workers, and where they meet."""
