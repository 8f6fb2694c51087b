"""Privacy: all that is stored of a person is handed out, deleted, erased."""
