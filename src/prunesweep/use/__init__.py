"""A setting that was found, in use: on a stock model in anybody's code, for one video and question, in servers and harnesses."""
