"""TrialBackend, several times: where trials run."""
