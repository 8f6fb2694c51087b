"""The command line for operators: failures, reports and files of all commands."""
