"""Models of guitar amplifiers and the like as JSON: RTNeural's, GuitarML's, AIDA-X's, and bare state dictionaries."""
