"""How well predictions agree with labels: measures of arrays, folders that they are read from, tables and files."""
