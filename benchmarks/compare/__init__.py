"""How fast and how small it is, measured beside other implementations in one run."""
