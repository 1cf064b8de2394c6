"""The program: command line and wiring. Builds objects, hands them to a supervisor, nothing else."""
