"""Episodes: environments here and in workers, who acts in them, and the loop of both."""
