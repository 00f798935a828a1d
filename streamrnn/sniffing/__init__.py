"""What comes on topics, told to a person, and a configuration drafted from it."""
