"""`make crash`: runs are killed at random moments, and what they leave behind is looked at."""
