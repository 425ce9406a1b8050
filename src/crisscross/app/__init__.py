"""The page in which images are labeled with the mouse: `crisscross app`."""
