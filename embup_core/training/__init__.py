"""Training without a framework: choose candidates, fit each twice, score, refit the champion, publish."""
