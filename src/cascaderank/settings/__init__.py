"""Settings: the tables of a config file, validated when read, immutable."""
