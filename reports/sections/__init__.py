"""The sections of the page: each module has a function `section` from results to what its template shows."""
