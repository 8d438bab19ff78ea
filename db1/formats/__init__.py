"""Files in formats of others, read without trusting them: containers, pictures, films, spaces."""
