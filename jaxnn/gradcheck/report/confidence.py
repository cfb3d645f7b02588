"""How sure a cause is, in a word."""

SURE = "sure"  # it alone of the catalogue gives the candidate's numbers, at every point looked at
LIKELY = "likely"  # it does so as the simplest of several, or says where more than what
GUESS = "a guess"  # one point, or more than the mistake is needed; the others of several; placed only
