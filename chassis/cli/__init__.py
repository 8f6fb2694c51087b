"""The command line for operators: how commands fail, report and write, whatever they are about."""
