"""Runs of i-PI from here: its input, its process, its folder, its result."""
