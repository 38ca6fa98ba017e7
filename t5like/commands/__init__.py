"""What each command does once its arguments are read; `cli.py` reads them and prints the errors."""
