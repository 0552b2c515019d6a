"""Clock, steady state, sampling, statistics, and the worker process."""
