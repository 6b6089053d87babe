"""What keeps a notebook running in the box that was written for another machine."""
