"""What to try next. The only room that knows Optuna."""
