"""What keeps a folder of results whole: locks, files that grow, files written in one piece, stopping in time."""
