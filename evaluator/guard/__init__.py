"""Guard against the code of a model: it must not end the program, and must open no file that the key leaves out."""
