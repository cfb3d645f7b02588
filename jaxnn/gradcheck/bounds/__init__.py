"""Every value of a program with a bound on its rounding error."""
