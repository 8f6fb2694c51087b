"""How the text of variables becomes the values of a configuration, and is shown again."""
