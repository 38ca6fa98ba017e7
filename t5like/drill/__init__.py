"""Drills: a run is disturbed by real signals and faults, and held bit for bit to one that was not.

Runs are processes of the command line, as a supervisor starts them: nothing of the training is imported here. Most are
forked from a process that has imported all (server.py), which costs no start of TensorFlow and JAX; some are started
cold. A trial is a pure function of the seed and its number, but for what the clock decides.
"""
