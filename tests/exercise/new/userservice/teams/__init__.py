"""Teams: users found them, and find them again."""
